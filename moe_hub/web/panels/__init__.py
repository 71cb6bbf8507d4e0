"""The parts of the page as Dash components: what stands where. What moves is drawn by the scripts in assets/."""
