"""Metric rows as columns: 8 bytes a number instead of a dictionary a row, and nothing that was handed out changes.

Legend: R rows, S entries of one metric (rows that have it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Shape = tuple[int, ...]

_ROOM = 8  # a buffer grows by an eighth: 1,000,000 rows waste at most 1 MB a column


class Growable:
    """An array that grows at its end. `view` is read-only and stays as it is: a cut goes on in another buffer."""

    def __init__(self, dtype: npt.DTypeLike, shape: Shape = ()) -> None:
        self._buffer: npt.NDArray[Any] = np.empty((0, *shape), dtype)
        self._size = 0

    @classmethod
    def over(cls, array: npt.NDArray[Any]) -> Growable:
        """Begins with the values of an array, which may lie in a mapped file; values added later copy it once."""
        grown = cls(array.dtype, array.shape[1:])
        grown._buffer, grown._size = array, array.shape[0]
        return grown

    def __len__(self) -> int:
        return self._size

    def extend(self, values: npt.NDArray[Any]) -> None:
        """Adds values (N, ...) at the end."""
        size = self._size + len(values)
        if size > len(self._buffer):
            room = max(16, size // _ROOM if self._size else 0)
            buffer = np.empty((size + room, *self._buffer.shape[1:]), self._buffer.dtype)
            buffer[: self._size] = self._buffer[: self._size]
            self._buffer = buffer
        self._buffer[self._size : size] = values
        self._size = size

    def cut(self, size: int) -> None:
        """Keeps the first `size` values."""
        if size < self._size:
            self._buffer = self._buffer[:size].copy()
            self._size = size

    def view(self) -> npt.NDArray[Any]:
        """The values so far, read-only."""
        values = self._buffer[: self._size]
        values.flags.writeable = False
        return values

    @property
    def nbytes(self) -> int:
        return self._buffer.nbytes


class Column:
    """The entries of one metric: row numbers ascending, each once, and values.

    While the metric stands in every row from the first on, its row numbers are 0 .. S-1 and are not kept.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        # Scalars keep every digit that was logged; arrays are drawn, not read off, and are large.
        self.values = Growable(np.float32 if shape else np.float64, shape)
        self.rows: Growable | None = None

    @property
    def last_row(self) -> int:
        """The row of the last entry; -1 where there is none."""
        if self.rows is None:
            return len(self.values) - 1
        return int(self.rows.view()[-1]) if len(self.rows) else -1

    def extend(self, rows: IntArray, values: npt.NDArray[Any]) -> None:
        """Adds entries; a row that is there already, and rows that occur twice, get the later value."""
        if rows.size > 1 and not (rows[1:] > rows[:-1]).all():
            last = np.append(rows[1:] != rows[:-1], True)
            rows, values = rows[last], values[last]
        if rows.size and rows[0] <= self.last_row:
            self.cut(int(rows[0]))
        if self.rows is None and (rows[0] != len(self.values) or rows[-1] - rows[0] != rows.size - 1):
            self.rows = Growable(np.int32)
            self.rows.extend(np.arange(len(self.values), dtype=np.int32))
        if self.rows is not None:
            self.rows.extend(rows)
        self.values.extend(values)

    def cut(self, row: int) -> None:
        """Drops the entries of `row` and all later rows."""
        if self.rows is None:
            self.values.cut(row)
        else:
            size = int(np.searchsorted(self.rows.view(), row))
            self.rows.cut(size)
            self.values.cut(size)

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + (self.rows.nbytes if self.rows is not None else 0)


@dataclass(frozen=True)
class Snapshot:
    """All rows of one moment: steps, unix times and tokens (R,), and for each metric (row numbers or None for
    0 .. S-1, values (S, ...)). `branches` are rows that a resume superseded, oldest first."""

    steps: IntArray
    times: FloatArray
    tokens: IntArray
    columns: Mapping[str, tuple[npt.NDArray[np.int32] | None, npt.NDArray[Any]]]
    branches: tuple[Snapshot, ...] = ()
    remembered: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def of(self, values: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
        """The entries of a per-row array that belong to a metric, (S,)."""
        rows, entries = self.columns[name]
        return values[: len(entries)] if rows is None else values[rows]


EMPTY = Snapshot(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64), {})


class Table:
    """The rows of one run, steps ascending, each step once."""

    def __init__(self) -> None:
        self.steps = Growable(np.int64)
        self.times = Growable(np.float64)
        self.tokens = Growable(np.int64)
        self.columns: dict[tuple[str, Shape], Column] = {}
        self.branches: tuple[Snapshot, ...] = ()

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def last_step(self) -> int:
        """-1 where there is no row."""
        return int(self.steps.view()[-1]) if len(self.steps) else -1

    def cut(self, row: int) -> None:
        """Drops row `row` and all later ones."""
        for growable in (self.steps, self.times, self.tokens):
            growable.cut(row)
        for column in self.columns.values():
            column.cut(row)
        self.columns = {key: column for key, column in self.columns.items() if len(column.values)}

    def snapshot(self, first: int = 0, *, scalars_only: bool = False) -> Snapshot:
        """The rows from `first` on. A metric whose shape changed shows the entries of its newest shape."""
        newest: dict[str, Column] = {}
        for (name, shape), column in self.columns.items():
            known = newest.get(name)
            if not (scalars_only and shape) and (known is None or column.last_row > known.last_row):
                newest[name] = column
        columns = {name: _entries(column, first) for name, column in newest.items()}
        return Snapshot(
            self.steps.view()[first:], self.times.view()[first:], self.tokens.view()[first:],
            {name: entries for name, entries in columns.items() if len(entries[1])},
            self.branches if first == 0 else (),
        )  # fmt: skip

    @property
    def nbytes(self) -> int:
        own = self.steps.nbytes + self.times.nbytes + self.tokens.nbytes
        return own + sum(column.nbytes for column in self.columns.values()) + sum(map(_nbytes, self.branches))


def _entries(column: Column, first: int) -> tuple[npt.NDArray[np.int32] | None, npt.NDArray[Any]]:
    values = column.values.view()
    rows = None if column.rows is None else column.rows.view()
    if first == 0:
        return rows, values
    if rows is None:
        return None, values[first:]
    begin = int(np.searchsorted(rows, first))
    return rows[begin:] - np.int32(first), values[begin:]


def _nbytes(snapshot: Snapshot) -> int:
    own = snapshot.steps.nbytes + snapshot.times.nbytes + snapshot.tokens.nbytes
    return own + sum(values.nbytes for _, values in snapshot.columns.values())
