"""Line charts in Braille characters: 2 x 4 dots a cell, so 60 columns show 120 points.

Each chart keeps the lowest and highest value of what falls into a column, and marks a column with values that are not
finite by a cross at its foot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moe_hub.figures.buckets import select
from moe_hub.terminal.drawing.cells import Piece, Row, Style, merged

Numbers = npt.NDArray[np.float64]

_BRAILLE = 0x2800
# Bit of the dot in column c (0, 1) and row r (0 to 3, from above) of a Braille character (Unicode, block 28).
_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_LABEL = 9  # characters of the numbers beside the chart
NOT_FINITE = "×"


@dataclass(frozen=True)
class Curve:
    """One line: x ascending and y, (S,); `level` curves are one value over the whole width."""

    name: str
    x: Numbers
    y: Numbers
    style: Style = "line 0"


def level(name: str, value: float, style: Style = "alarm") -> Curve:
    """A horizontal line over the whole width."""
    return Curve(name, np.empty(0), np.array([value]), style)


def chart(curves: Sequence[Curve], width: int, height: int, *, ascii_only: bool = False) -> list[Row]:
    """`height` rows of `width` cells: the lines, the range of y at the left, and the range of x below."""
    rows, columns = max(1, height - 1), max(4, width - _LABEL - 1)
    drawn = [curve for curve in curves if curve.x.size]
    low_x, high_x = _range([curve.x for curve in drawn])
    low_y, high_y = _padded(*_range([curve.y for curve in curves]))
    dots = np.zeros((rows * 4, columns * 2), bool)
    owners = np.full((rows, columns), -1)
    gaps = np.zeros(columns, bool)
    for index, curve in enumerate(curves):
        mask = np.zeros_like(dots)
        if curve.x.size:
            _draw(curve, mask, gaps, (low_x, high_x), (low_y, high_y))
        else:
            mask[_row_of(curve.y, low_y, high_y, mask.shape[0]), :: 3 if not ascii_only else 1] = True
        dots |= mask
        owners[mask.reshape(rows, 4, columns, 2).any((1, 3)) & ((owners < 0) | bool(curve.x.size))] = index
    styles = [curve.style for curve in curves]
    lines = [_line(dots[row * 4 : row * 4 + 4], owners[row], styles, ascii_only) for row in range(rows)]
    _mark(lines[-1], gaps, ascii_only)
    labels = _labels(low_y, high_y, rows)
    body = [
        [(labels.get(row, "").rjust(_LABEL) + ("|" if ascii_only else "│"), "muted"), *merged(line)]
        for row, line in enumerate(lines)
    ]
    return [*body[: height - 1], [(_foot(low_x, high_x, columns, bool(drawn)), "muted")]]


def legend(curves: Sequence[Curve], width: int, *, ascii_only: bool = False) -> Row:
    """The names of the curves behind a short line of their colour, as many as fit."""
    row: Row = []
    left = width
    for curve in curves:
        text = f"{'-' if ascii_only else '━'} {curve.name}  "
        if len(text) > left:
            row.append(("...", "muted"))
            break
        row.append((text, curve.style))
        left -= len(text)
    return row


def short(value: float) -> str:
    """A number in at most `_LABEL` - 1 characters."""
    if not math.isfinite(value):
        return str(value)
    text = f"{value:.3g}"
    return text if len(text) < _LABEL else f"{value:.1e}"


def _range(parts: Sequence[Numbers]) -> tuple[float, float]:
    values = np.concatenate([part[np.isfinite(part)] for part in parts]) if parts else np.empty(0)
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)


def _padded(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10)


def _row_of(y: Numbers, low: float, high: float, size: int) -> npt.NDArray[np.int64]:
    return np.asarray(np.rint((high - y) / (high - low) * (size - 1)).clip(0, size - 1), dtype=np.int64)


def _draw(
    curve: Curve, mask: npt.NDArray[np.bool_], gaps: npt.NDArray[np.bool_], across: tuple[float, float],
    along: tuple[float, float],
) -> None:  # fmt: skip
    """Sets the dots of a curve in `mask` (4 x rows, 2 x columns) and the columns of its gaps."""
    size = mask.shape[1]
    kept = select(curve.x, curve.y, size, raw_rows=4 * size)
    x, y = curve.x[kept], curve.y[kept]
    span = across[1] - across[0]
    at = np.rint((x - across[0]) / span * (size - 1)).astype(np.int64) if span > 0 else np.zeros(x.size, np.int64)
    finite = np.isfinite(y)
    gaps[at[~finite] // 2] = True
    rows = _row_of(np.where(finite, y, along[0]), *along, mask.shape[0])
    before: tuple[int, int] | None = None
    for column, row, is_finite in zip(at.tolist(), rows.tolist(), finite.tolist(), strict=True):
        if not is_finite:
            before = None
            continue
        _join(mask, before or (column, row), (column, row))
        before = (column, row)


def _join(mask: npt.NDArray[np.bool_], start: tuple[int, int], end: tuple[int, int]) -> None:
    """The dots of a straight line between two dots (column, row)."""
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    columns = np.rint(np.linspace(start[0], end[0], steps + 1)).astype(np.int64)
    rows = np.rint(np.linspace(start[1], end[1], steps + 1)).astype(np.int64)
    mask[rows, columns] = True


def _line(
    dots: npt.NDArray[np.bool_], owners: npt.NDArray[np.int64], styles: Sequence[Style], ascii_only: bool
) -> list[Piece]:
    """One row of cells from 4 rows of dots."""
    codes = np.zeros(dots.shape[1] // 2, np.int64)
    for column in (0, 1):
        for row in range(4):
            codes |= np.where(dots[row, column::2], _BITS[column][row], 0)
    cells: list[Piece] = []
    for code, owner in zip(codes.tolist(), owners.tolist(), strict=True):
        if not code:
            cells.append((" ", ""))
        else:
            cells.append(("*" if ascii_only else chr(_BRAILLE + code), styles[owner]))
    return cells


def _mark(cells: list[Piece], gaps: npt.NDArray[np.bool_], ascii_only: bool) -> None:
    for column in np.flatnonzero(gaps).tolist():
        cells[column] = ("x" if ascii_only else NOT_FINITE, "alarm")


def _labels(low: float, high: float, rows: int) -> dict[int, str]:
    labels = {rows - 1: short(low), 0: short(high)}
    if rows >= 5:
        middle = (rows - 1) // 2
        labels[middle] = short(high - (high - low) * (middle + 0.5) / rows)
    return labels


def _foot(low: float, high: float, columns: int, any_drawn: bool) -> str:
    if not any_drawn:
        return ""
    left, right = f"{low:,.0f}", f"{high:,.0f}"
    room = max(1, columns - len(left) - len(right))
    return " " * (_LABEL + 1) + left + " " * room + (right if high > low else "")
