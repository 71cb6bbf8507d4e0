"""Heatmaps: over steps, and of experts against experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from moe_hub.figures import theme
from moe_hub.figures.axes import x_axis
from moe_hub.figures.buckets import visible
from moe_hub.figures.drawing import Drawing, Trace
from moe_hub.figures.parts import (
    chosen_layer,
    column_means,
    expert_name,
    first_with,
    first_with_any,
    primary_experts,
    row_at_end,
    short_name,
)
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory

MOST_CELLS = 400_000
MOST_COLUMNS = 500


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
    drawing.run_axis = True
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
    drawing.height_px = 140 + 6 * len(rows) if len(rows) < 120 else 0
    drawing.layout["yaxis"] = {
        **theme.axis_style(view), "type": "category", "autorange": "reversed", "tickmode": "array",
        "tickvals": rows[::every], "showgrid": False,
    }  # fmt: skip


def largest(values: np.ndarray) -> float:
    """The largest finite value, above 0: the end of a colour scale that begins at 0."""
    finite = values[np.isfinite(values)]
    return max(float(finite.max()), 1e-12) if finite.size else 1.0


def color_bar(title: str, view: View) -> dict[str, Any]:
    """A colour bar that leaves the figure its width."""
    narrow = view.width_px < theme.NARROW_PX
    return {
        "title": {"text": title, "side": "top", "font": {"size": 11}}, "thickness": 10 if narrow else 14,
        "outlinewidth": 0, "tickfont": {"size": 10 if narrow else 11}, "len": 1.0,
    }  # fmt: skip


def square(histories: Sequence[RunHistory], view: View, metric: str, unit: str) -> Drawing:
    """Who reads whom: experts against experts in the chosen layer at one step, values from 0 up."""
    drawing = Drawing()
    history = first_with(histories, metric, drawing)
    if history is not None and (trace := _square_trace(history, view, metric, unit, drawing, signed=False)):
        drawing.traces.append(trace)
        drawing.layout = _square_axes(view, ("is read", "reads")) | {"annotations": _square_words(trace, view)}
    return drawing


def squares(histories: Sequence[RunHistory], view: View, metrics: Mapping[str, str]) -> Drawing:
    """Experts against experts by several metrics with values from -1 to 1, as one colour scale shows them all.

    `metrics` are names and what stands under each square. The squares are beside each other, on a narrow screen below.
    """
    drawing = Drawing()
    history = first_with_any(histories, metrics, drawing)
    if history is None:
        return drawing
    for name, title in metrics.items():
        known = name in history.names()
        trace = _square_trace(history, view, name, title, drawing, signed=True) if known else None
        if trace is None:
            continue
        number = "" if not drawing.traces else str(len(drawing.traces) + 1)
        trace |= {"xaxis": f"x{number}", "yaxis": f"y{number}", "showscale": not number}
        trace["colorbar"] = color_bar("alike", view)
        drawing.traces.append(trace)
        axes = _square_axes(view, (title, ""))
        drawing.layout.setdefault("annotations", []).extend(_square_words(trace, view))
        drawing.layout[f"xaxis{number}"] = axes["xaxis"] | {"anchor": f"y{number}"}
        drawing.layout[f"yaxis{number}"] = axes["yaxis"] | {"anchor": f"x{number}"}
    _share_room(drawing, view)
    return drawing


def _share_room(drawing: Drawing, view: View) -> None:
    """Gives each square its part of the width, or of the height of a narrow screen."""
    count, narrow = len(drawing.traces), view.width_px < theme.NARROW_PX
    gap = 0.22 if narrow else 0.12  # names and title of the square above stand in it
    each = (1 - gap * (count - 1)) / max(1, count)
    for index in range(count):
        start = index * (each + gap)
        number = str(index + 1) if index else ""
        if narrow:
            drawing.layout[f"yaxis{number}"]["domain"] = [max(0.0, 1 - start - each), 1 - start]
        else:
            drawing.layout[f"xaxis{number}"]["domain"] = [start, min(1.0, start + each)]
    drawing.height_px = 320 * count if narrow and count > 1 else 0


def _square_trace(
    history: RunHistory, view: View, metric: str, unit: str, drawing: Drawing, *, signed: bool
) -> Trace | None:
    """The heatmap of the chosen layer at one step; None where no value is finite. `signed` lie between -1 and 1."""
    layer = chosen_layer(history.arrays(metric)[1].shape[1], view, drawing)
    values = row_at_end(history, metric, view, drawing)[layer]
    if not np.isfinite(values).any():
        return None
    experts = primary_experts(history, values.shape[1])
    names = [expert_name(index, experts) for index in range(values.shape[1])]
    short = [short_name(index, experts) for index in range(len(names))] if len(names) > 8 else names
    colours = theme.palette(view)
    trace: Trace = {
        "type": "heatmap", "uid": f"{history.run_id}/{metric}/square", "name": metric, "x": short, "y": short,
        "z": np.where(np.isfinite(values), values, np.nan), "hoverongaps": False, "xgap": 1, "ygap": 1,
        "colorscale": theme.color_scale(colours.diverging if signed else colours.sequential),
        "zmin": -1 if signed else 0, "zmax": 1 if signed else largest(values), "colorbar": color_bar(unit, view),
        "hovertemplate": f"%{{y}} reads %{{x}}<br>{unit} %{{z:.4f}}<extra></extra>" if not signed
        else f"%{{y}} and %{{x}}<br>{unit} %{{z:.4f}}<extra></extra>",
    }  # fmt: skip
    return trace


def cell_words(trace: Trace, form: str, view: View) -> list[dict[str, Any]]:
    """The values of a heatmap's cells as annotations, each in a colour that is read well on its cell.

    Plotly's own text of cells is dark grey on middle tones. `form` is a format string of one value.
    """
    low, high = trace["zmin"], trace["zmax"]
    words = []
    for row, values in zip(trace["y"], trace["z"], strict=True):
        for column, value in zip(trace["x"], values.tolist(), strict=True):
            if np.isfinite(value):
                share = min(1.0, max(0.0, (value - low) / (high - low)))
                colour = theme.text_on(theme.color_at(trace["colorscale"], share))
                words.append({
                    "text": form.format(value), "x": column, "y": row, "xref": trace.get("xaxis", "x"),
                    "yref": trace.get("yaxis", "y"), "showarrow": False, "name": "cell",
                    "font": {"size": 10 if view.width_px < theme.NARROW_PX else 11, "color": colour},
                })  # fmt: skip
    return words


def _square_words(trace: Trace, view: View) -> list[dict[str, Any]]:
    return cell_words(trace, "{:z.2f}", view) if len(trace["x"]) <= 8 else []


def _square_axes(view: View, titles: tuple[str, str]) -> dict[str, Any]:
    """Axes of experts against experts, the first on top, with the titles of x and y."""
    axis = {**theme.axis_style(view), "type": "category", "showgrid": False}
    return {
        "xaxis": {**axis, "title": {**axis["title"], "text": titles[0]}},
        "yaxis": {**axis, "autorange": "reversed", "title": {**axis["title"], "text": titles[1]}},
    }
