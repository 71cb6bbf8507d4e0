"""The colours of the menu, those of the page, and drawn rows as Textual shows them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.theme import Theme

from moe_hub.figures.theme import PALETTES
from moe_hub.terminal.drawing import cells

LIGHT, DARK = "moe-light", "moe-dark"


def themes() -> list[Theme]:
    """Light and dark."""
    return [
        Theme(
            name=LIGHT, dark=False, primary="#0b5a8c", secondary="#2f83b7", accent="#a84300", foreground="#1b1f24",
            background="#ffffff", surface="#f3f6fa", panel="#e3e6ea", error=PALETTES["light"].alarm,
            warning="#8a5a00", success="#1f7a4d",
        ),
        Theme(
            name=DARK, dark=True, primary="#4c9fd0", secondary="#2470a3", accent="#ff8a3d", foreground="#e6e9ed",
            background="#14181d", surface="#1b2127", panel="#2c333b", error=PALETTES["dark"].alarm,
            warning="#ffe08a", success="#8fe6c8",
        ),
    ]  # fmt: skip


def as_text(rows: Sequence[cells.Row], theme_name: str) -> Text:
    """Rows of cells as one text with colours; a terminal without them shows the same characters."""
    theme: cells.Theme = "light" if theme_name == LIGHT else "dark"
    text = Text(no_wrap=True, end="")
    for index, row in enumerate(rows):
        if index:
            text.append("\n")
        for piece, style in row:
            text.append(piece, cells.colour(style, theme) or None)
    return text
