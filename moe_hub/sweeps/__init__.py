"""Searches over config keys: Optuna chooses what to try, the ordinary queue trains it."""
