"""Honest comparisons: a grid of arms and seeds through the ordinary run queue, and one table out."""
