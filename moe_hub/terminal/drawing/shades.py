"""Heatmaps of block characters: the darker the cell, the larger the value. Readable without colours too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from moe_hub.terminal.drawing.cells import SHADES, Piece, Row, merged

Numbers = npt.NDArray[np.float64]

_BLOCKS = ("·", "░", "▒", "▓", "█")
_ASCII = (".", "-", "+", "#", "@")
_LABEL = 10


def heatmap(
    steps: npt.NDArray[np.int64], values_SE: Numbers, names: Sequence[str], width: int, *, low: float, high: float,
    ascii_only: bool = False,
) -> list[Row]:  # fmt: skip
    """A row for each name (column of the values, over steps) and one with the range of steps below.

    A cell is the mean of the finite values in its share of the rows; `×` where none of them is finite. At the right
    stands the newest value.
    """
    columns = max(4, width - _LABEL - 7)
    parts = [part for part in np.array_split(values_SE, min(columns, len(values_SE))) if len(part)]
    rows: list[Row] = []
    for index, name in enumerate(names):
        cells: list[Piece] = []
        repeat = max(1, columns // len(parts))
        for part in parts:
            cells += [_cell(part[:, index], low, high, ascii_only)] * repeat
        newest = float(values_SE[-1, index])
        rows.append([(name[:_LABEL].ljust(_LABEL), "muted"), *merged(cells[:columns]), (f" {newest:.3g}", "")])
    left, right = f"{int(steps[0]):,}", f"{int(steps[-1]):,}"
    used = min(columns, len(parts) * max(1, columns // len(parts)))
    rows.append([(" " * _LABEL + left + " " * max(1, used - len(left) - len(right)) + right, "muted")])
    return rows


def bars(values: Sequence[tuple[str, float]], width: int, *, high: float = 1.0, ascii_only: bool = False) -> list[Row]:
    """A row for each name: its value as a bar from 0 to `high`, and as a number."""
    label = min(20, max((len(name) for name, _ in values), default=0))
    room = max(4, width - label - 8)
    rows: list[Row] = []
    for index, (name, value) in enumerate(values):
        if not np.isfinite(value):
            rows.append([(name[:label].ljust(label + 1), "muted"), (f"× {value}", "alarm")])
            continue
        filled = round(room * min(max(value / high, 0.0), 1.0))
        full, empty = ("#", ".") if ascii_only else ("█", "░")
        rows.append([
            (name[:label].ljust(label + 1), "muted"), (full * filled, f"line {index}"),
            (empty * (room - filled), "muted"), (f" {value:.3g}", ""),
        ])  # fmt: skip
    return rows


def _cell(values: Numbers, low: float, high: float, ascii_only: bool) -> Piece:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return ("x" if ascii_only else "×", "alarm")
    share = (float(finite.mean()) - low) / (high - low) if high > low else 0.0
    shade = min(SHADES - 1, max(0, int(share * SHADES)))
    return (_ASCII if ascii_only else _BLOCKS)[shade], f"shade {shade}"
