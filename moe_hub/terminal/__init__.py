"""The workbench in a terminal. It reads and obeys through the run store and the launcher, as the page does."""
