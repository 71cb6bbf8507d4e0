"""From a source (generated tasks, a file, a Hub dataset) to batches of tokens.

This package's `__init__` imports nothing: the page and the shell look at data without paying for torch.
"""
