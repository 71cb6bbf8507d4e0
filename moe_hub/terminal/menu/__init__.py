"""The workbench on the whole terminal, made with Textual: one file a screen. The work is done elsewhere."""
