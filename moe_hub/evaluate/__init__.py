"""Judging a checkpoint: loss and perplexity on held-out tokens, and what it answers to lambda-calculus tasks."""
