"""The run directory: what the trainer writes and everything else reads. No torch and no web package in here."""
