"""A run's metrics as flat series: one for each scalar, and for each entry of the arrays that are small enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from moe_hub.errors import RunError
from moe_hub.runs.history import RunHistory
from moe_hub.runs.metrics import find_metric
from moe_hub.runs.reader import MetricReader
from moe_hub.runs.store import RunDirectory

MOST_ENTRIES = 256  # an array with more becomes no series: the other program would drown in them


@dataclass(frozen=True)
class Series:
    """One series: steps, unix times in seconds, and values, each of shape (rows,)."""

    tag: str
    steps: np.ndarray
    times: np.ndarray
    values: np.ndarray


def flat_series(run: RunDirectory) -> tuple[list[Series], tuple[str, ...]]:
    """All series of the run, by name, and the metrics that are left out for their size.

    Raises `RunError` where there is no row yet.
    """
    reader = MetricReader(run.path)
    reader.poll()
    history = reader.history()
    if not history.names():
        raise RunError(f"run {run.run_id} has no metrics yet")
    names = sorted(history.names())
    left_out = tuple(name for name in names if _entries(history, name) > MOST_ENTRIES)
    return [series for name in names if name not in left_out for series in _of(history, name)], left_out


def _entries(history: RunHistory, name: str) -> int:
    _, values = history.arrays(name)
    return int(np.prod(values.shape[1:], dtype=np.int64))


def _of(history: RunHistory, name: str) -> Iterator[Series]:
    """The series of a metric: expert/load/layer 0/expert 2."""
    steps, values = history.arrays(name)
    times = history.wall_times(name)
    axes = _axes(name, values.ndim - 1)
    for index in np.ndindex(values.shape[1:]):
        place = "".join(f"/{axis} {number}" for axis, number in zip(axes, index, strict=True))
        yield Series(f"{name}{place}", steps, times, values[(slice(None), *index)])


def _axes(name: str, count: int) -> list[str]:
    """Names of the axes of an array metric, in the singular: (layers, experts) is layer, expert."""
    metric = find_metric(name)
    shape = metric.shape.strip("()").split(",") if metric else []
    words = [axis.strip().split(" ")[0].removesuffix("s") for axis in shape]
    return words if len(words) == count else [f"axis {number}" for number in range(count)]
