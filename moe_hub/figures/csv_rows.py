"""All rows behind a figure as CSV, in pieces, however many there are."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from moe_hub.figures.registry import find
from moe_hub.figures.spec import FigureSpec
from moe_hub.figures.tables import Table
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory

PIECE = 5000  # rows
_FIRST = ("run", "step", "time", "tokens")


def figure_csv(key: str, histories: Sequence[RunHistory], view: View) -> Iterator[bytes]:
    """UTF-8 CSV of every row that holds a metric of the figure: run, step, unix time, tokens, and a column per metric;
    array metrics get a column per entry, as `expert/load[0,3]`. Nothing is smoothed or left out; `view` only chooses
    the metric of an overlay. Raises `ConfigError` for an unknown figure."""
    spec = find(key)
    names = _names(spec, histories, view)
    shapes = {name: _entries(name, histories) for name in names}
    header = [*_FIRST, *(column for name in names for column in shapes[name])]
    return _write(header, names, {name: len(columns) for name, columns in shapes.items()}, histories)


def table_csv(table: Table, run_ids: Sequence[str]) -> Iterator[bytes]:
    """UTF-8 CSV of a table with a row per run, the ids of the runs before its own columns."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([safe_cell(name) for name in ("id", *table.columns)])
    for run_id, row in zip(run_ids, table.rows, strict=True):
        writer.writerow([run_id, *(_cell(value) for value in row)])
    yield _taken(out)


def _cell(value: object) -> object:
    if isinstance(value, float):
        return _number(value)
    return "" if value is None else safe_cell(str(value))


def _names(spec: FigureSpec, histories: Sequence[RunHistory], view: View) -> list[str]:
    known = sorted({name for history in histories for name in history.names()})
    if spec.needs == ("*",) and view.metric in known:
        return [view.metric]
    return [name for name in known if spec.fits([name])]


def _entries(name: str, histories: Sequence[RunHistory]) -> list[str]:
    """Column names of a metric, for the largest shape that a run has."""
    shape: tuple[int, ...] = max((history.arrays(name)[1].shape[1:] for history in histories), key=np.prod)
    return [f"{name}[{','.join(map(str, index))}]" for index in np.ndindex(*shape)] if shape else [name]


def _write(
    header: Sequence[str], names: Sequence[str], widths: dict[str, int], histories: Sequence[RunHistory]
) -> Iterator[bytes]:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([safe_cell(name) for name in header])
    for history in histories:
        columns = [_column(history, name) for name in names]
        wanted = np.unique(np.concatenate([rows for rows, _ in columns])) if columns else np.empty(0, np.int64)
        for first in range(0, wanted.size, PIECE):
            rows = wanted[first : first + PIECE]
            _write_piece(writer, history, rows, columns, [widths[name] for name in names])
            yield _taken(out)
    yield _taken(out)


def _column(history: RunHistory, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Row numbers (S,) and values (S, entries)."""
    if name not in history.snapshot.columns:
        return np.empty(0, np.int64), np.empty((0, 0))
    rows, values = history.snapshot.columns[name]
    numbers = np.arange(len(values)) if rows is None else rows.astype(np.int64)
    return numbers, values.reshape(len(values), -1)


def _write_piece(
    writer: object, history: RunHistory, rows: npt.NDArray[np.int64],
    columns: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]], widths: Sequence[int],
) -> None:  # fmt: skip
    snapshot = history.snapshot
    cells: list[list[object]] = [
        [history.run_id] * rows.size, snapshot.steps[rows].tolist(), snapshot.times[rows].tolist(),
        snapshot.tokens[rows].tolist(),
    ]  # fmt: skip
    for (numbers, values), width in zip(columns, widths, strict=True):
        place = np.searchsorted(numbers, rows)
        there = (place < numbers.size) & (numbers[np.minimum(place, max(numbers.size - 1, 0))] == rows) if (
            numbers.size) else np.zeros(rows.size, bool)  # fmt: skip
        for entry in range(width):
            inside = there if entry < values.shape[1] else np.zeros(rows.size, bool)
            found: list[object] = [""] * rows.size
            for row in np.flatnonzero(inside).tolist():
                found[row] = _number(float(values[place[row], entry]))
            cells.append(found)
    writer.writerows(zip(*cells, strict=True))  # type: ignore[attr-defined]


def _number(value: float) -> str | float:
    if value == value and abs(value) != np.inf:
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def safe_cell(text: str) -> str:
    """Text that a spreadsheet does not run as a formula."""
    text = " ".join(text.splitlines()) if not text.isprintable() else text
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") or text[:1] == "\t" else text


def _taken(out: io.StringIO) -> bytes:
    text = out.getvalue()
    out.seek(0)
    out.truncate()
    return text.encode("utf-8")
