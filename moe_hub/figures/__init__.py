"""Figures: pure functions from what a run measured to what a page draws. Neither dash nor torch in here."""
