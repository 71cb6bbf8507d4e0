"""Tables and numbers as text."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

_SECONDS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def lay_out(rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset(), width: int | None = None) -> list[str]:
    """Lines of a table whose first row is the head; columns in `right` are set to the right.

    What is wider than `width` characters is cut at the end of the line, with a sign that it was.
    """
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(size) if index in right else cell.ljust(size)
            for index, (cell, size) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(cells).rstrip()
        lines.append(line if width is None or len(line) <= width else line[: max(0, width - 1)] + "…")
    return lines


def number(value: float | int | None) -> str:
    """A number in few characters; `-` where there is none."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if math.isfinite(value) else str(value)


def duration(seconds: float) -> str:
    """A time span in its two largest units, such as 2 h 5 min."""
    left, parts = max(0, round(seconds)), []
    for size, unit in _SECONDS:
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) if parts else "0 s"


def age(since: float) -> str:
    """How long ago a unix time is, in its largest unit."""
    return " ".join(duration(time.time() - since).split(" ")[:2])


def one_line(text: str) -> str:
    """Text of other people without line ends and control characters, which a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text)
