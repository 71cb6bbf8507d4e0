"""Colours and layout of all figures: colour-blind safe, light and dark, readable at 390 px."""

from __future__ import annotations

import itertools
import textwrap
from dataclasses import dataclass
from typing import Any

from moe_hub.figures.view import Theme, View

NARROW_PX = 600
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', Arial, sans-serif"
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


@dataclass(frozen=True)
class Palette:
    """Colours of one theme; `lines` begin as those of Okabe and Ito (2008); chosen so that each two
    differ for people with full, protan, deutan and tritan sight, and each stands out from this background."""

    paper: str
    text: str
    muted: str
    grid: str
    missing: str
    alarm: str
    lines: tuple[str, ...]
    sequential: tuple[str, ...]
    diverging: tuple[str, ...]


PALETTES: dict[Theme, Palette] = {
    "light": Palette(
        paper="#ffffff", text="#1b1f24", muted="#59636e", grid="#e3e6ea", missing="#d3d7dc", alarm="#c1121f",
        lines=("#0072b2", "#d55e00", "#279e94", "#7a2a7f", "#5a4500", "#6f7dff", "#e0607a", "#12304f"),
        sequential=("#f3f6fa", "#bcd7ea", "#74b0d5", "#2f83b7", "#0b5a8c", "#053358"),
        diverging=("#0b5a8c", "#74b0d5", "#f4f4f2", "#eba46b", "#a84300"),
    ),
    "dark": Palette(
        paper="#14181d", text="#e6e9ed", muted="#a3adb8", grid="#2c333b", missing="#3b434c", alarm="#ff6b6b",
        lines=("#56b4e9", "#ff8a3d", "#8fe6c8", "#a577f2", "#9c6a20", "#ffe08a", "#3d68d8", "#d46a9f"),
        sequential=("#1b2733", "#1d4668", "#2470a3", "#4c9fd0", "#93cbea", "#e2f2fb"),
        diverging=("#74c0ee", "#2c6c97", "#252a30", "#a8602b", "#ffb27a"),
    ),
}  # fmt: skip


def palette(view: View) -> Palette:
    """The colours of the view's theme."""
    return PALETTES[view.theme]


def line_style(index: int, view: View) -> tuple[str, str]:
    """(colour, dash) number `index`; after the last colour they begin again with another dash."""
    lines = palette(view).lines
    return lines[index % len(lines)], DASHES[index // len(lines) % len(DASHES)]


def faint(colour: str, share: float) -> str:
    """The colour at an opacity of `share`."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share:g})"


def mix(first: str, second: str, share: float) -> str:
    """The colour at `share` of the way from the first to the second, both as #rrggbb."""
    parts = (
        round(int(first[i : i + 2], 16) * (1 - share) + int(second[i : i + 2], 16) * share) for i in (1, 3, 5)
    )  # fmt: skip
    return "#" + "".join(f"{part:02x}" for part in parts)


def color_at(scale: list[list[Any]], share: float) -> str:
    """The colour at `share` of the way along a scale, as Plotly mixes it."""
    for (start, first), (end, second) in itertools.pairwise(scale):
        if share <= end:
            return mix(first, second, max(0.0, (share - start) / (end - start)))
    return str(scale[-1][1])


def text_on(colour: str) -> str:
    """Black or white, whichever is easier to read on the colour #rrggbb: a contrast of 4.58 or more."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


def color_scale(colours: tuple[str, ...]) -> list[list[Any]]:
    """Colours at even distances, as Plotly takes them."""
    return [[index / (len(colours) - 1), colour] for index, colour in enumerate(colours)]


def plain_text(text: object) -> str:
    """Text from outside (labels, metric names): Plotly reads tags and %{...}, so those are defused."""
    escaped = str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("%{", "%&#123;").replace("\n", " ")


def wrap(text: str, view: View, size_px: float = 12) -> str:
    """Breaks a line so that it fits the width of the view; an average letter is about half as wide as high."""
    columns = max(24, int((view.width_px - 24) / (size_px * 0.55)))
    return "<br>".join(textwrap.wrap(text, columns, break_long_words=False)) or text


def base_layout(view: View) -> dict[str, Any]:
    """What all figures share. No axis ranges and no camera: those belong to the person who looks."""
    colours = palette(view)
    narrow = view.width_px < NARROW_PX
    return {
        "paper_bgcolor": colours.paper,
        "plot_bgcolor": colours.paper,
        "font": {"family": FONT, "size": 11 if narrow else 12, "color": colours.text},
        "margin": {"l": 48 if narrow else 60, "r": 12 if narrow else 20, "t": 64, "b": 44, "pad": 0},
        "hoverlabel": {
            "bgcolor": colours.paper, "bordercolor": colours.grid, "namelength": -1,
            "font": {"family": FONT, "size": 12, "color": colours.text},
        },
        "legend": {
            "orientation": "h", "x": 0, "xanchor": "left", "y": 0, "yref": "container", "yanchor": "bottom",
            "bgcolor": "rgba(0,0,0,0)", "font": {"size": 11, "color": colours.text}, "itemsizing": "constant",
        },
        "dragmode": "zoom",
    }  # fmt: skip


def axis_style(view: View) -> dict[str, Any]:
    """Lines, grid and ticks of a cartesian axis."""
    colours = palette(view)
    return {
        "gridcolor": colours.grid,
        "linecolor": colours.muted,
        "tickcolor": colours.muted,
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "automargin": True,
        "title": {"font": {"size": 12, "color": colours.muted}, "standoff": 6},
        "tickfont": {"size": 11, "color": colours.muted},
    }
