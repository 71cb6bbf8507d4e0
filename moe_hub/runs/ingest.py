"""From lines of JSON to columns: the rules for bad lines, repeated steps and superseded attempts.

A row of a newer attempt, or one whose step is below the last, supersedes every earlier row with its step or a later
one, so each step stands once, from the newest attempt. Rows with the same step in the same attempt are one row: a
metric that both have gets the later value, time and tokens stay those of the first. A row of an older attempt than the
newest seen is left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from moe_hub.runs.columns import Column, IntArray, Snapshot, Table

ROW_KEYS = ("step", "time", "tokens", "attempt")
MOST_BRANCHES = 8  # superseded attempts that are kept for drawing

Row = dict[str, Any]
_Entries = tuple[IntArray, npt.NDArray[Any]]


def parse_lines(content: bytes) -> tuple[list[Row], int]:
    """Rows of finished lines, and how many lines are none. One bad line costs nothing but itself."""
    content = content.strip()
    if not content:
        return [], 0
    try:  # all at once is a third quicker than line by line
        found = orjson.loads(b"[" + content.replace(b"\n", b",") + b"]")
        if len(found) == content.count(b"\n") + 1:
            rows = found if _are_rows(found) else [row for row in found if _is_row(row)]
            return rows, len(found) - len(rows)
    except ValueError:
        pass
    lines = [line for line in content.split(b"\n") if line.strip()]
    rows = [row for line in lines if (row := _parse_line(line)) is not None]
    return rows, len(lines) - len(rows)


def _parse_line(line: bytes) -> Row | None:
    try:
        row = orjson.loads(line)
    except ValueError:
        try:  # Python's own parser also reads NaN, Infinity and numbers beyond a double, which others write
            row = json.loads(line)
        except (ValueError, RecursionError):
            return None
    return row if _is_row(row) else None


def _are_rows(found: list[Any]) -> bool:
    """Whether all are rows, in a quarter of the time that asking one by one takes."""
    try:
        counts = [row["step"] for row in found] + [row.get("attempt", 0) for row in found]
    except (KeyError, TypeError, AttributeError):
        return False
    return set(map(type, counts)) == {int} and min(counts) >= 0 and max(counts) < 2**63


def _is_row(row: Any) -> bool:
    return type(row) is dict and _is_count(row.get("step")) and _is_count(row.get("attempt", 0))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


class Ingest:
    """Adds rows to a table."""

    def __init__(self) -> None:
        self.table = Table()
        self.attempt = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Adds rows in the order of the file."""
        if not rows:
            return
        count = len(rows)
        steps = np.fromiter(map(itemgetter("step"), rows), np.int64, count)
        attempts = np.fromiter((row.get("attempt", 0) for row in rows), np.int64, count)
        breaks = np.flatnonzero((attempts[1:] != attempts[:-1]) | (steps[1:] < steps[:-1])) + 1
        for first, last in zip([0, *breaks.tolist()], [*breaks.tolist(), count], strict=True):
            attempt = int(attempts[first])
            if attempt < self.attempt:
                continue
            if attempt > self.attempt or steps[first] < self.table.last_step:
                self._supersede(int(steps[first]))
            self.attempt = attempt
            self._append(rows[first:last], steps[first:last])

    def _supersede(self, step: int) -> None:
        first = int(np.searchsorted(self.table.steps.view(), step))
        if first == len(self.table):
            return
        branch = _copied(self.table.snapshot(first, scalars_only=True))
        self.table.branches = (*self.table.branches, branch)[-MOST_BRANCHES:]
        self.table.cut(first)

    def _append(self, rows: Sequence[Row], steps: IntArray) -> None:
        """Rows of one attempt whose steps do not fall; the first may be the last row of the table."""
        fresh = np.append(steps[0] != self.table.last_step, steps[1:] != steps[:-1])
        numbers = len(self.table) - 1 + np.cumsum(fresh)
        firsts = np.flatnonzero(fresh)
        self.table.steps.extend(steps[firsts])
        chosen = rows if firsts.size == len(rows) else [rows[index] for index in firsts.tolist()]
        self.table.times.extend(_numbers(chosen, "time", np.float64))
        self.table.tokens.extend(_numbers(chosen, "tokens", np.int64))
        for (name, shape), (at, values) in _gather(rows).items():
            column = self.table.columns.setdefault((name, shape), Column(shape))
            column.extend(numbers[at], values)


def _copied(snapshot: Snapshot) -> Snapshot:
    """Free of the large buffers that it was cut from."""
    columns = {
        name: (None if rows is None else rows.copy(), values.copy())
        for name, (rows, values) in snapshot.columns.items()
    }
    return Snapshot(snapshot.steps.copy(), snapshot.times.copy(), snapshot.tokens.copy(), columns)


def _numbers(rows: Sequence[Row], name: str, dtype: Any) -> npt.NDArray[Any]:
    """time or tokens of each row; what is missing, no number or out of bounds counts as 0."""
    try:
        found = np.fromiter(map(itemgetter(name), rows), np.float64, len(rows))
    except (KeyError, TypeError, ValueError, OverflowError):
        found = np.array([_number(row.get(name)) for row in rows])
    found = np.where(np.isfinite(found) & (np.abs(found) < 2**62), found, 0.0)
    return found.astype(dtype)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < 2**62 else 0.0


def _gather(rows: Sequence[Row]) -> dict[tuple[str, tuple[int, ...]], _Entries]:
    """Entries of every metric by name and shape: places in `rows`, ascending, and values."""
    kinds: dict[tuple[str, ...], list[int]] = {}
    for place, row in enumerate(rows):  # rows of one kind have the same keys in the same order
        kinds.setdefault(tuple(row), []).append(place)
    pieces: dict[tuple[str, tuple[int, ...]], list[_Entries]] = {}
    for keys, places in kinds.items():
        kind = rows if len(places) == len(rows) else [rows[place] for place in places]
        at = np.array(places)
        for name in keys:
            if name in ROW_KEYS:
                continue
            for where, values in _convert(list(map(itemgetter(name), kind))):
                entries = (at if where is None else at[where], values)
                pieces.setdefault((name, values.shape[1:]), []).append(entries)
    return {key: _in_order(found) for key, found in pieces.items()}


def _in_order(pieces: list[_Entries]) -> _Entries:
    if len(pieces) == 1:
        return pieces[0]
    at = np.concatenate([piece[0] for piece in pieces])
    values = np.concatenate([piece[1] for piece in pieces])
    order = np.argsort(at, kind="stable")
    return at[order], values[order]


def _convert(values: list[Any]) -> list[tuple[IntArray | None, npt.NDArray[Any]]]:
    """Values as arrays of one shape each, with their places (None: all); what is no number is left out."""
    first = type(values[0])
    try:
        if first is float or first is int:
            return [(None, np.fromiter(values, np.float64, len(values)))]
        if first is list:
            array = np.array(values, dtype=np.float32)
            return [(None, array)] if array.size else []
    except (TypeError, ValueError, OverflowError):
        pass
    by_shape: dict[tuple[int, ...], tuple[list[int], list[npt.NDArray[Any]]]] = {}
    for place, value in enumerate(values):
        one = _as_array(value)
        if one is not None and one.size:
            places, arrays = by_shape.setdefault(one.shape, ([], []))
            places.append(place)
            arrays.append(one)
    return [(np.array(places), np.stack(arrays)) for places, arrays in by_shape.values()]


def _as_array(value: Any) -> npt.NDArray[Any] | None:
    """Numbers, also as "NaN" and "Infinity", as an array; None for what is no number."""
    if value is None or isinstance(value, dict):
        return None
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return array.astype(np.float32) if array.ndim else array
