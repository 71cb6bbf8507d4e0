"""The table of figures, in the order in which a page offers them, and how one is drawn."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from moe_hub.errors import ConfigError
from moe_hub.figures import experts, loss, optimization, rotation, theme
from moe_hub.figures.drawing import Drawing
from moe_hub.figures.spec import FigureSpec
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory

__all__ = ["FIGURES", "FigureSpec", "View", "available", "compose", "draw", "find"]

_TABLE = (
    loss.training_loss,
    experts.expert_activations,
    optimization.learning_rate_schedule,
    rotation.rotation_angles_evolution,
    rotation.orthogonality_preservation,
    loss.geometric_loss_components,
    rotation.rotation_3d,
)

FIGURES: dict[str, FigureSpec] = {spec.key: spec for spec in _TABLE}


def find(key: str) -> FigureSpec:
    """The figure of a key; raises `ConfigError`."""
    if key in FIGURES:
        return FIGURES[key]
    near = difflib.get_close_matches(key, FIGURES, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; figures: {', '.join(FIGURES)}"
    raise ConfigError(f"figure {key!r} does not exist{hint}")


def available(histories: Sequence[RunHistory]) -> list[FigureSpec]:
    """The figures that these runs have data for, in the order of the table."""
    names = set().union(*(history.names() for history in histories))
    return [spec for spec in _TABLE if len(histories) >= spec.several and spec.fits(names)]


def draw(key: str, histories: Sequence[RunHistory], view: View) -> go.Figure:
    """The figure as plotly.py holds it. Pure: the same histories and view give the same figure."""
    return go.Figure(compose(key, histories, view))


def compose(key: str, histories: Sequence[RunHistory], view: View) -> dict[str, Any]:
    """The figure as plain data: {"data": [...], "layout": {...}}, arrays as numpy arrays."""
    spec = find(key)
    drawing = spec.draw(histories, view)
    layout = theme.base_layout(view)
    if drawing.panels:
        layout |= _panel_axes(drawing, view)
    elif drawing.x_axis:
        layout["xaxis"] = {**theme.axis_style(view), **drawing.x_axis}
    layout |= drawing.layout
    if not drawing.traces:
        drawing.note("no rows yet")
    layout["title"] = _title(spec, drawing, view)
    layout["margin"] = {**layout["margin"], "t": 40 + 15 * (layout["title"]["text"].count("<br>") + 1)}
    layout["hovermode"] = layout.get("hovermode") or ("x unified" if 1 < len(drawing.traces) <= 10 else "closest")
    layout["uirevision"] = key
    _keep_zoom(layout, view)
    layout["meta"] = {"key": key, "question": spec.question, "notes": list(drawing.notes)}
    return {"data": drawing.traces, "layout": layout}


def _title(spec: FigureSpec, drawing: Drawing, view: View) -> dict[str, Any]:
    colours = theme.palette(view)
    lines = [f"<b>{theme.plain_text(spec.title)}</b>"]
    notes = [
        f'<span style="font-size:11px;color:{colours.muted}">{theme.wrap(theme.plain_text(note), view, 11)}</span>'
        for note in drawing.notes
    ]
    return {
        "text": "<br>".join(lines + notes), "x": 0, "xref": "container", "xanchor": "left",
        "y": 1, "yref": "container", "yanchor": "top", "pad": {"l": 12, "t": 12}, "font": {"size": 15},
    }  # fmt: skip


def _panel_axes(drawing: Drawing, view: View) -> dict[str, Any]:
    """y axes from top to bottom over one x axis, which stands under the last."""
    log_y = view.log_y if drawing.log_y is None else drawing.log_y
    count = len(drawing.panels)
    height, gap = (1 - 0.1 * (count - 1)) / count, 0.1
    axes: dict[str, Any] = {}
    for index, title in enumerate(drawing.panels):
        top = 1 - index * (height + gap)
        style = theme.axis_style(view)
        axes["yaxis" if index == 0 else f"yaxis{index + 1}"] = {
            **style, "title": {**style["title"], "text": theme.plain_text(title)}, "anchor": "x",
            "domain": [max(0.0, top - height), top], "type": "log" if log_y else "linear",
            "exponentformat": "power",
        }  # fmt: skip
    style = theme.axis_style(view)
    x = {**style, **drawing.x_axis, "anchor": "y" if count == 1 else f"y{count}"}
    x["title"] = {**style["title"], **drawing.x_axis.get("title", {"text": ""})}
    return {**axes, "xaxis": x}


def _keep_zoom(layout: dict[str, Any], view: View) -> None:
    """A zoom is kept while its axis means the same: each axis has a revision of its own, the legend the figure's."""
    for name, axis in layout.items():
        if name.startswith("xaxis"):
            axis["uirevision"] = f"{view.x} {axis.get('type')}"
        elif name.startswith("yaxis"):
            axis["uirevision"] = f"{axis.get('type')} {view.layer}"
