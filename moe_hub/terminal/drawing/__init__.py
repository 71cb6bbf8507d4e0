"""Curves and shaded tables made of characters: pure functions from numbers to rows of cells."""
