"""What is known of a run at one moment: its config, its status and its metrics. Does not change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from moe_hub.runs.columns import EMPTY, FloatArray, IntArray, Snapshot
from moe_hub.runs.ingest import Ingest
from moe_hub.runs.status import Status

Axis = Literal["step", "tokens", "active_time", "time"]
_T = TypeVar("_T")

ACTIVE_TIME = "time/active_s"
_MOST_REMEMBERED_BYTES = 64 << 20
_remember_lock = threading.Lock()


class RunHistory:
    """Metrics by step, each step once, from the newest attempt. All arrays handed out are read-only.

    `label` is the name that a person gave the run. `version` changes whenever metrics or config do. `complete` is
    False while only samples of a long file have been read: `total_rows` is then an estimate.
    """

    def __init__(
        self,
        run_id: str,
        config: Mapping[str, Any] | None = None,
        status: Status | None = None,
        rows: Sequence[Mapping[str, Any]] = (),
        *,
        snapshot: Snapshot | None = None,
        label: str = "",
        version: str = "",
        complete: bool = True,
        total_rows: int | None = None,
    ) -> None:
        self.run_id = run_id
        self.config: Mapping[str, Any] = freeze(config or {})
        self.status = status
        self.label = label
        self.version = version
        self.complete = complete
        self.snapshot = _snapshot_of(rows) if snapshot is None else snapshot
        self.total_rows = len(self.snapshot.steps) if total_rows is None else total_rows

    def __repr__(self) -> str:
        return f"RunHistory({self.run_id!r}, {len(self.snapshot.steps)} rows, {len(self.snapshot.columns)} metrics)"

    def names(self) -> set[str]:
        """Names of the metrics that stand in at least one row."""
        return set(self.snapshot.columns)

    def matching(self, prefix: str) -> list[str]:
        """Metric names that begin with `prefix`, sorted."""
        return sorted(name for name in self.snapshot.columns if name.startswith(prefix))

    def series(self, name: str) -> tuple[IntArray, FloatArray]:
        """Steps (S,) and values (S,) of a scalar metric, from the rows that have it; empty if it is an array."""
        steps, values = self.arrays(name)
        return (steps, values) if values.ndim == 1 else _nothing()

    def arrays(self, name: str) -> tuple[IntArray, npt.NDArray[Any]]:
        """Steps (S,) and values (S, ...), float64 for scalars and float32 for arrays; rows whose shape is not that
        of the newest row are left out."""
        if name not in self.snapshot.columns:
            return _nothing()
        return _read_only(self.snapshot.of(self.snapshot.steps, name)), self.snapshot.columns[name][1]

    def x_values(self, name: str, axis: Axis) -> FloatArray:
        """Where the values of a metric stand on an axis, (S,): step, tokens, seconds spent training (as logged in
        time/active_s; without it as `time`), or seconds since the first row."""
        return _x_values(self.snapshot, name, axis, self._begin)

    def wall_times(self, name: str) -> FloatArray:
        """Unix seconds at which the values of a metric were logged, (S,)."""
        return _x_values(self.snapshot, name, "time", 0.0)

    def abandoned(self, name: str, axis: Axis) -> list[tuple[FloatArray, FloatArray]]:
        """(x, values) of a scalar metric in each earlier attempt that a resume superseded, oldest first."""
        return [
            (_x_values(branch, name, axis, self._begin), branch.columns[name][1])
            for branch in self.snapshot.branches
            if name in branch.columns
        ]

    def remember(self, key: Hashable, compute: Callable[[], _T]) -> _T:
        """What `compute` gives, kept with these rows: smoothing 1,000,000 rows once serves every page."""
        kept = self.snapshot.remembered
        if key in kept:
            return kept[key]  # type: ignore[no-any-return]
        value = compute()
        with _remember_lock:
            kept[key] = value
            while len(kept) > 1 and sum(getattr(item, "nbytes", 0) for item in kept.values()) > _MOST_REMEMBERED_BYTES:
                del kept[next(iter(kept))]
        return value

    @property
    def _begin(self) -> float:
        return float(self.snapshot.times[0]) if len(self.snapshot.times) else 0.0


def _x_values(snapshot: Snapshot, name: str, axis: Axis, begin: float) -> FloatArray:
    if name not in snapshot.columns:
        return _nothing()[1]
    if axis == "active_time" and (active := _active_time(snapshot, name)) is not None:
        return _read_only(active)
    if axis in ("active_time", "time"):
        return _read_only(snapshot.of(snapshot.times, name) - begin)
    values = snapshot.tokens if axis == "tokens" else snapshot.steps
    return _read_only(snapshot.of(values, name).astype(np.float64))


def _active_time(snapshot: Snapshot, name: str) -> FloatArray | None:
    """Seconds spent training at the rows of a metric, between rows that logged them in proportion to the steps."""
    seconds = snapshot.columns.get(ACTIVE_TIME, (None, np.empty(0)))[1]
    finite = np.isfinite(seconds)
    if seconds.ndim != 1 or not finite.any():
        return None
    logged = snapshot.of(snapshot.steps, ACTIVE_TIME)[finite]
    return np.asarray(np.interp(snapshot.of(snapshot.steps, name), logged, seconds[finite]))


def _snapshot_of(rows: Sequence[Mapping[str, Any]]) -> Snapshot:
    if not rows:
        return EMPTY
    ingest = Ingest()
    ingest.add([{key: _plain(value) for key, value in row.items()} for row in rows])
    return ingest.table.snapshot()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def freeze(value: Any) -> Any:
    """Nested mappings, lists and arrays as read-only views and tuples."""
    if isinstance(value, MappingProxyType):  # made here before: the reader hands the same config on again and again
        return value
    if isinstance(value, Mapping):
        return MappingProxyType({key: freeze(item) for key, item in value.items()})
    if isinstance(value, np.ndarray):
        return freeze(value.tolist())
    return tuple(freeze(item) for item in value) if isinstance(value, list | tuple) else value


def _nothing() -> tuple[IntArray, FloatArray]:
    return _read_only(np.empty(0, np.int64)), _read_only(np.empty(0))


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array
