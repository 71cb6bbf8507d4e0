"""What the page and the terminal share: the form, presets, checkpoints, jobs. No torch and no web library."""
