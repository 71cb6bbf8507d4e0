"""Choosing what a figure of one run shows: the run, the layer, and columns of a heatmap over steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_hub.figures import theme
from moe_hub.figures.drawing import Drawing
from moe_hub.figures.lines import Curve, metric_curve, present, run_label
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory


def first_with(histories: Sequence[RunHistory], metric: str, drawing: Drawing) -> RunHistory | None:
    """The first run that has values of a metric; says which one where there are several runs."""
    found = next((history for history in histories if history.arrays(metric)[1].shape[0]), None)
    return say_run(found, histories, drawing)


def first_with_any(histories: Sequence[RunHistory], names: Collection[str], drawing: Drawing) -> RunHistory | None:
    """The first run that has values of one of these metrics; says which one where there are several runs."""
    found = next((history for history in histories if any(name in history.names() for name in names)), None)
    return say_run(found, histories, drawing)


def say_run(found: RunHistory | None, histories: Sequence[RunHistory], drawing: Drawing) -> RunHistory | None:
    """Writes down that a figure shows one run of several, so that a page offers the others."""
    if found is not None and len(histories) > 1:
        drawing.run = found.run_id
        drawing.note(f"run {run_label(found)}, the first of {len(histories)} that has these values")
    return found


def chosen_layer(layers: int, view: View, drawing: Drawing) -> int:
    """The layer of the view, or the last one where it has fewer; says which."""
    layer = min(view.layer, layers - 1)
    drawing.layers = layers
    drawing.note(f"layer {layer} of {layers}" + (f" (there is no layer {view.layer})" if view.layer >= layers else ""))
    return layer


def known_panels(drawing: Drawing, histories: Sequence[RunHistory], titles: Mapping[str, str]) -> list[str]:
    """The metrics of `titles` that any run has; each gets a panel with its title."""
    known = [name for name in titles if any(name in history.names() for history in histories)]
    drawing.panels = [titles[name] for name in known]
    return known


def row_at_end(history: RunHistory, metric: str, view: View, drawing: Drawing) -> npt.NDArray[Any]:
    """The newest finite values of an array metric, or those at the right end of the visible range; says of which step,
    and where a newer row is not finite."""
    steps, values = history.arrays(metric)
    index = len(steps) - 1
    if view.x_range is not None:
        x = history.x_values(metric, view.x)
        index = max(0, int(np.searchsorted(x, view.x_range[1], "right")) - 1)
    newest = index
    while index > 0 and not np.isfinite(values[index]).any():
        index -= 1
    if not np.isfinite(values[index]).any():
        index = newest
        drawing.note(f"step {int(steps[index]):,} and all before it: not finite")
    else:
        drawing.note(f"step {int(steps[index]):,}" + ("" if index == newest else ", the newest that is finite"))
    return np.asarray(values[index], dtype=np.float64)


def expert_name(index: int, experts: int) -> str:
    """Ghosts stand after the experts."""
    return f"expert {index}" if index < experts else f"ghost {index - experts}"


def short_name(index: int, experts: int) -> str:
    """E0, E1, ..., then G0, G1, ... for ghosts."""
    return f"E{index}" if index < experts else f"G{index - experts}"


def primary_experts(history: RunHistory, all_experts: int) -> int:
    """How many of the experts of a metric are no ghosts, by the run's config."""
    count = history.config.get("model", {}).get("num_experts")
    return min(count, all_experts) if isinstance(count, int) and count > 0 else all_experts


def expert_curves(
    history: RunHistory, metric: str, layer: int, view: View, *, panel: int = 0, **style: Any
) -> list[Curve]:
    """One curve per expert of a (layers, experts) metric; ghosts dotted."""
    shape = history.arrays(metric)[1].shape
    experts = primary_experts(history, shape[2])
    curves = []
    for index in range(shape[2]):
        colour, dash = theme.line_style(index, view)
        name = expert_name(index, experts)
        curves.append(metric_curve(
            history, metric, view, name, colour, (layer, index), dash=dash if index < experts else "dot", panel=panel,
            legend=panel == 0, group=name, smoothed=True, **style,
        ))  # fmt: skip
    return present(curves)


def layer_curves(
    histories: Sequence[RunHistory], metric: str, view: View, drawing: Drawing, panel: int = 0
) -> list[Curve]:
    """One curve per layer of a (layers) metric; with several runs their mean over layers cannot be drawn honestly,
    so each run shows the chosen layer."""
    if len(histories) == 1:
        layers = histories[0].arrays(metric)[1].shape[1:]
        return present([
            metric_curve(histories[0], metric, view, f"layer {layer}", theme.line_style(layer, view)[0], (layer,),
                         dash=theme.line_style(layer, view)[1], panel=panel, legend=panel == 0,
                         group=f"layer {layer}", smoothed=True)
            for layer in range(layers[0] if layers else 0)
        ])  # fmt: skip
    drawing.note(f"layer {view.layer} of each run")
    found = []
    for index, history in enumerate(histories):
        values = history.arrays(metric)[1]
        if values.ndim == 2 and values.shape[0]:
            colour, dash = theme.line_style(index, view)
            layer = min(view.layer, values.shape[1] - 1)
            found.append(metric_curve(history, metric, view, run_label(history), colour, (layer,), dash=dash,
                                      panel=panel, legend=panel == 0, group=history.run_id, smoothed=True))  # fmt: skip
    return present(found)


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
