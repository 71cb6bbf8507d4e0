"""What is known of a run at one moment: its config, its status and its metric rows. Does not change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from moe_hub.runs.status import Status

ROW_KEYS = frozenset({"step", "time", "tokens", "attempt"})

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RunHistory:
    """Rows sorted by step, each step once. All arrays handed out are read-only."""

    run_id: str
    config: Mapping[str, Any] = field(default_factory=dict)
    status: Status | None = None
    rows: Sequence[Mapping[str, Any]] = ()
    label: str = ""
    version: str = ""
    _found: dict[str, tuple[list[int], FloatArray]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", freeze(self.config))
        object.__setattr__(self, "rows", tuple(freeze(row) for row in self.rows))

    def __reduce__(self) -> tuple[Any, ...]:
        return RunHistory, (self.run_id, _thaw(self.config), self.status, _thaw(self.rows))

    def names(self) -> set[str]:
        """Names of the metrics that stand in at least one row."""
        return {name for row in self.rows for name in row} - ROW_KEYS

    def matching(self, prefix: str) -> list[str]:
        """Metric names that begin with `prefix`, sorted."""
        return sorted(name for name in self.names() if name.startswith(prefix))

    def series(self, name: str) -> tuple[IntArray, FloatArray]:
        """Steps (S,) and values (S,) of a scalar metric, from the rows that have it; empty if it is an array."""
        steps, values = self.arrays(name)
        return (
            (steps, values) if values.ndim == 1 else (_frozen_array(steps[:0]), _frozen_array(values.reshape(-1)[:0]))
        )

    def arrays(self, name: str) -> tuple[IntArray, FloatArray]:
        """Steps (S,) and values (S, ...); rows whose shape is not that of the last row are left out."""
        indices, values = self._column(name)
        steps = np.fromiter((self.rows[index]["step"] for index in indices), np.int64, len(indices))
        return _frozen_array(steps), values

    def x_values(self, name: str, axis: Literal["step", "tokens", "active_time", "time"]) -> FloatArray:
        """Where the values of a metric stand on an axis, (S,): step, tokens, or seconds since the first row."""
        axis = "time" if axis == "active_time" else axis
        indices, _ = self._column(name)
        values = np.fromiter((float(self.rows[index].get(axis) or 0) for index in indices), np.float64, len(indices))
        if axis == "time" and len(indices):
            values = values - float(self.rows[0].get("time") or 0)
        return _frozen_array(values)

    def abandoned(self, name: str, axis: str) -> list[tuple[FloatArray, FloatArray]]:
        return []

    def remember(self, key: Any, compute: Any) -> Any:
        return compute()

    def _column(self, name: str) -> tuple[list[int], FloatArray]:
        if name not in self._found:
            self._found[name] = self._collect(name)
        return self._found[name]

    def _collect(self, name: str) -> tuple[list[int], FloatArray]:
        found = [
            (index, value)
            for index, row in enumerate(self.rows)
            if name in row and (value := _as_array(row[name])) is not None
        ]
        if not found:
            return [], _frozen_array(np.empty(0))
        shape = found[-1][1].shape
        kept = [(index, value) for index, value in found if value.shape == shape]
        return [index for index, _ in kept], _frozen_array(np.stack([value for _, value in kept]))


def freeze(value: Any) -> Any:
    """Nested mappings, lists and arrays as read-only views and tuples."""
    if isinstance(value, MappingProxyType):  # made here before: the reader hands the same rows on again and again
        return value
    if isinstance(value, Mapping):
        return MappingProxyType({key: freeze(item) for key, item in value.items()})
    if isinstance(value, np.ndarray):
        return freeze(value.tolist())
    return tuple(freeze(item) for item in value) if isinstance(value, list | tuple) else value


def _thaw(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _thaw(item) for key, item in value.items()}
    return tuple(_thaw(item) for item in value) if isinstance(value, tuple) else value


def _as_array(value: Any) -> FloatArray | None:
    """Numbers, also as "NaN" and "Infinity", as an array; None for what is no number."""
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None


def _frozen_array(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array
