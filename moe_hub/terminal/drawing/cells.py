"""What is drawn: rows of (text, style) pieces, as plain text, with ANSI colours, or for another program to colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from moe_hub.figures.theme import PALETTES

Theme = Literal["light", "dark"]
Style = str  # "", "muted", "alarm", or "line N" and "shade N": number N of the palette
Piece = tuple[str, Style]
Row = list[Piece]

SHADES = len(PALETTES["light"].sequential) - 1  # the first is that of the background


def colour(style: Style, theme: Theme) -> str:
    """The colour of a style as #rrggbb, that of the page's figures; empty for plain text."""
    word, _, number = style.partition(" ")
    colours = PALETTES[theme]
    if word == "line":
        return colours.lines[int(number) % len(colours.lines)]
    if word == "shade":
        return colours.sequential[1 + int(number)]
    return {"muted": colours.muted, "alarm": colours.alarm}[word] if word else ""


def as_text(rows: Sequence[Row]) -> list[str]:
    """The lines without colours and without spaces at their ends."""
    return ["".join(text for text, _ in row).rstrip() for row in rows]


def as_ansi(rows: Sequence[Row], theme: Theme = "dark", *, true_colour: bool = False) -> list[str]:
    """The lines with ANSI colours, of 24 bits or the nearest of 256."""
    return ["".join(_coloured(text, colour(style, theme), true_colour) for text, style in row) for row in rows]


def merged(cells: Sequence[Piece]) -> Row:
    """Neighbours of one style as one piece."""
    row: Row = []
    for text, style in cells:
        if row and row[-1][1] == style:
            row[-1] = (row[-1][0] + text, style)
        else:
            row.append((text, style))
    return row


def _coloured(text: str, code: str, true_colour: bool) -> str:
    if not code:
        return text
    parts = [int(code[start : start + 2], 16) for start in (1, 3, 5)]
    if true_colour:
        chosen = "2;" + ";".join(map(str, parts))
    else:  # the colour cube of xterm: 16 + 36 red + 6 green + blue, each 0 to 5
        red, green, blue = (round(part / 255 * 5) for part in parts)
        chosen = f"5;{16 + 36 * red + 6 * green + blue}"
    return f"\x1b[38;{chosen}m{text}\x1b[39m"
