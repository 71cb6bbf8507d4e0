"""Which experts work, on what, and how much alike they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from moe_hub.figures import theme
from moe_hub.figures.axes import x_axis
from moe_hub.figures.buckets import visible
from moe_hub.figures.drawing import Drawing, Trace
from moe_hub.figures.parts import column_means, first_with
from moe_hub.figures.spec import figure
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory

MOST_CELLS = 400_000
MOST_COLUMNS = 500


@figure("Core", "Expert Activations", ("expert/load",))
def expert_activations(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Which experts carry the output of their layer, and when did that change?

    A row per layer and expert, a column per logged step: the expert's share of its layer's output, by mean length of
    its contribution. Each layer's shares sum to 1. A row that fades out is an expert that is dying; one that takes
    over starves the others. Grey: not logged or not finite.

    Null value: 1 / experts, an even share, which is where an untrained gate stands.
    """
    drawing = Drawing()
    history = first_with(histories, "expert/load", drawing)
    if history is None:
        return drawing
    load = history.arrays("expert/load")[1]
    layers, experts = load.shape[1:]
    even = 1 / experts
    trace = heatmap_over_steps(drawing, history, "expert/load", view, load.reshape(len(load), -1))
    rows = [f"L{layer} E{expert}" for layer in range(layers) for expert in range(experts)]
    trace |= {
        "colorscale": theme.color_scale(theme.palette(view).sequential), "zmin": 0,
        "colorbar": color_bar(f"share<br>(even: {even:.3g})", view),
        "hovertemplate": "%{y}<br>%{x}<br>share %{z:.4f}" + f"<extra>even share {even:.4f}</extra>",
    }  # fmt: skip
    row_axis(drawing, trace, rows, experts, view)
    return drawing


def heatmap_over_steps(drawing: Drawing, history: RunHistory, metric: str, view: View, values: np.ndarray) -> Trace:
    """A heatmap trace of values (rows, lines) over the x axis; neighbouring rows are averaged where there are many."""
    x = history.x_values(metric, view.x)
    window = visible(x, view.x_range)
    columns = max(2, min(MOST_COLUMNS, view.width_px, MOST_CELLS // max(1, values.shape[1])))
    at, means, each = column_means(x[window], values[window], columns)
    if view.log_x:
        at, means = at[at > 0], means[at > 0]
    if each > 1:
        drawing.note(f"{window.stop - window.start:,} rows, shown as means of {each:,} neighbouring rows")
    missing = int((~np.isfinite(means)).any(1).sum())
    if missing:
        drawing.note(f"{missing:,} columns hold values that are not finite")
    drawing.x_axis = x_axis(view, [float(x[-1])])
    drawing.layout["plot_bgcolor"] = theme.palette(view).missing
    return {
        "type": "heatmap", "uid": f"{history.run_id}/{metric}", "name": metric, "x": at,
        "z": np.ascontiguousarray(np.where(np.isfinite(means), means, np.nan).T.astype(np.float32)),
        "hoverongaps": False, "xaxis": "x", "yaxis": "y",
    }  # fmt: skip


def row_axis(drawing: Drawing, trace: Trace, rows: list[str], per_layer: int, view: View) -> None:
    """Adds the heatmap with named rows, the first on top; where there are too many names, one per layer."""
    every = 1 if len(rows) <= 24 else per_layer
    every *= max(1, -(-len(rows) // every // 24))
    trace["y"] = rows
    drawing.traces.append(trace)
    drawing.layout["yaxis"] = {
        **theme.axis_style(view), "type": "category", "autorange": "reversed", "tickmode": "array",
        "tickvals": rows[::every], "showgrid": False,
    }  # fmt: skip


def color_bar(title: str, view: View) -> dict[str, Any]:
    """A colour bar that leaves the figure its width."""
    narrow = view.width_px < theme.NARROW_PX
    return {
        "title": {"text": title, "side": "top", "font": {"size": 11}}, "thickness": 10 if narrow else 14,
        "outlinewidth": 0, "tickfont": {"size": 10 if narrow else 11}, "len": 1.0,
    }  # fmt: skip
