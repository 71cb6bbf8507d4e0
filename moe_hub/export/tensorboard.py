"""A run as TensorBoard event files: every scalar metric, and every entry of the arrays that are small enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_hub.errors import RunError
from moe_hub.runs.history import RunHistory
from moe_hub.runs.metrics import find_metric
from moe_hub.runs.reader import MetricReader
from moe_hub.runs.store import RunDirectory

MOST_ENTRIES = 256  # an array with more becomes no tags: TensorBoard would drown in them


@dataclass(frozen=True)
class Exported:
    """How many tags and values were written, and which metrics were left out for their size."""

    folder: Path
    tags: int
    values: int
    left_out: tuple[str, ...]


def export_run(run: RunDirectory, folder: Path) -> Exported:
    """Writes the run's metrics as event files into a folder; raises `RunError`.

    Steps and wall times are the run's own. Needs the package tensorboard.
    """
    try:
        from tensorboard.summary import Writer
    except ImportError:
        raise RunError(
            "the package tensorboard is not installed; pip install 'moe-hub[tensorboard]', then run this again"
        ) from None
    reader = MetricReader(run.path)
    reader.poll()
    history = reader.history()
    if not history.names():
        raise RunError(f"run {run.run_id} has no metrics yet")
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"folder {folder} is not empty; TensorBoard would mix two runs, so give another with --out")
    folder.mkdir(parents=True, exist_ok=True)
    writer = Writer(str(folder))
    tags, values, left_out = 0, 0, []
    try:
        for name in sorted(history.names()):
            if _entries(history, name) > MOST_ENTRIES:
                left_out.append(name)
                continue
            for tag, steps, times, column in _tagged(history, name):
                tags, values = tags + 1, values + len(steps)
                for step, time, value in zip(steps.tolist(), times.tolist(), column.tolist(), strict=True):
                    writer.add_scalar(tag, value, step, wall_time=time)
    finally:
        writer.close()
    return Exported(folder, tags, values, tuple(left_out))


def _entries(history: RunHistory, name: str) -> int:
    _, values = history.arrays(name)
    return int(np.prod(values.shape[1:], dtype=np.int64))


def _tagged(history: RunHistory, name: str) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """(tag, steps, unix times, values) of each entry: expert/load/layer 0/expert 2."""
    steps, values = history.arrays(name)
    times = history.wall_times(name)
    axes = _axes(name, values.ndim - 1)
    for index in np.ndindex(values.shape[1:]):
        place = "".join(f"/{axis} {number}" for axis, number in zip(axes, index, strict=True))
        yield f"{name}{place}", steps, times, values[(slice(None), *index)]


def _axes(name: str, count: int) -> list[str]:
    """Names of the axes of an array metric, in the singular: (layers, experts) is layer, expert."""
    metric = find_metric(name)
    shape = metric.shape.strip("()").split(",") if metric else []
    words = [axis.strip().split(" ")[0].removesuffix("s") for axis in shape]
    return words if len(words) == count else [f"axis {number}" for number in range(count)]
