"""Choosing what a figure of one run shows: the run, the layer, and columns of a heatmap over steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_hub.figures.drawing import Drawing
from moe_hub.figures.lines import run_label
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory


def first_with(histories: Sequence[RunHistory], metric: str, drawing: Drawing) -> RunHistory | None:
    """The first run that has values of a metric; says which one where there are several runs."""
    found = next((history for history in histories if history.arrays(metric)[1].shape[0]), None)
    if found is not None and len(histories) > 1:
        drawing.note(f"run {run_label(found)}, the first of {len(histories)} that has these values")
    return found


def chosen_layer(layers: int, view: View, drawing: Drawing) -> int:
    """The layer of the view, or the last one where it has fewer; says which."""
    layer = min(view.layer, layers - 1)
    drawing.note(f"layer {layer} of {layers}" + (f" (there is no layer {view.layer})" if view.layer >= layers else ""))
    return layer


def column_means(
    x: npt.NDArray[np.float64], values: npt.NDArray[Any], columns: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32], int]:
    """Means over equally many neighbouring rows: (x of each first row (C,), values (C, ...), rows per column).

    Rows that are not finite are passed over; a column with none that is finite is NaN.
    """
    rows = values.shape[0]
    each = max(1, -(-rows // columns))
    if each == 1:
        return x, values.astype(np.float32), 1
    full = rows // each * each
    blocks = [values[:full].reshape(-1, each, *values.shape[1:])]
    if full < rows:
        blocks.append(values[None, full:])
    means = [_mean(block) for block in blocks]
    return x[::each], np.concatenate(means).astype(np.float32), each


def _mean(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Mean over axis 1 of the finite values."""
    mean = block.mean(1, dtype=np.float64)
    if np.isfinite(mean).all():
        return np.asarray(mean)
    finite = np.isfinite(block)
    count = finite.sum(1)
    total = np.where(finite, block, 0).sum(1, dtype=np.float64)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))
