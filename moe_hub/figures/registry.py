"""The table of figures, in the order in which a page offers them, and how one is drawn."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from moe_hub.errors import ConfigError
from moe_hub.figures import (
    architecture,
    cognitive,
    compare,
    experts,
    ghost,
    ghost_threshold,
    hypergraph,
    loss,
    optimization,
    rotation,
    theme,
)
from moe_hub.figures.drawing import Drawing
from moe_hub.figures.spec import FigureSpec
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory

__all__ = ["FIGURES", "FigureSpec", "View", "available", "compose", "draw", "find"]

_TABLE = (
    loss.training_loss,
    experts.expert_activations,
    optimization.learning_rate_schedule,
    optimization.gradient_norms,
    optimization.throughput_and_system,
    rotation.rotation_angles_evolution,
    rotation.orthogonality_preservation,
    experts.expert_specialization,
    experts.expert_similarity,
    loss.geometric_loss_components,
    rotation.rotation_efficiency,
    rotation.rotation_3d,
    cognitive.cognitive_rotation_schedule,
    cognitive.lambda_rotation_patterns,
    cognitive.reasoning_accuracy,
    cognitive.loss_by_phase,
    ghost.ghost_expert_activation,
    ghost.saturation_monitoring,
    ghost.ghost_vs_primary_learning,
    ghost_threshold.activation_threshold_tuning,
    experts.expert_connection_heatmap,
    hypergraph.hypergraph_edge_weights,
    hypergraph.hypergraph,
    experts.expert_load,
    architecture.router_losses,
    architecture.diversity_controller,
    compare.overlay_of_runs,
    compare.config_difference_of_runs,
    compare.final_metrics_of_runs,
)

LEAST_HEIGHT_PX = 360
PANEL_PX, ONE_PANEL_PX = 110, 190  # of each of several panels with the gap under it; of a panel that is alone
X_AXIS_PX, LEGEND_ROW_PX, LEGEND_KEY_PX, LETTER_PX = 44, 29, 52, 6.2
TITLE_PX, NOTE_PX, PANEL_TITLE_PX = 34, 15, 22

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
    drawing = spec.draw(histories[: spec.most], view)
    if len(histories) > spec.most:
        drawing.note(f"the first {spec.most} of {len(histories)} runs; Overlay of Runs and the tables show them all")
    for history in histories:
        if not history.complete:
            drawing.note(f"reading about {history.total_rows:,} rows; samples until then")
    if not drawing.traces:
        drawing.note("nothing to draw" if any(len(history.snapshot.steps) for history in histories) else "no rows yet")
    layout = theme.base_layout(view)
    if not drawing.traces:
        layout |= {"xaxis": {"visible": False}, "yaxis": {"visible": False}}
        drawing.panels, drawing.layout = [], {}
    elif drawing.panels:
        layout |= _panel_axes(drawing, view)
    elif drawing.x_axis:
        layout["xaxis"] = _axis(view, drawing.x_axis)
    layout |= drawing.layout
    _head(layout, spec, drawing, view)
    layout.setdefault("hovermode", "x unified" if 1 < len(drawing.traces) <= 10 else "closest")
    layout["uirevision"] = key
    _keep_zoom(layout, view)
    height = max(LEAST_HEIGHT_PX, drawing.height_px, _panels_height(layout, drawing, view))
    layout["meta"] = {
        "key": key, "question": spec.question, "notes": list(drawing.notes), "height_px": height,
        "layers": drawing.layers, "run_axis": drawing.run_axis, "run": drawing.run,
    }  # fmt: skip
    return {"data": [{**trace, "uid": _class_name(trace["uid"])} for trace in drawing.traces], "layout": layout}


def _panels_height(layout: dict[str, Any], drawing: Drawing, view: View) -> int:
    """The height at which panels are readable between their notes, which wrap, and the rows of their legend."""
    if not drawing.panels:
        return 0
    names = [len(str(trace.get("name", ""))) for trace in drawing.traces if trace.get("showlegend", True)]
    each_px = LEGEND_KEY_PX + LETTER_PX * max(names, default=0)  # all columns are as wide as the longest name
    columns = max(1, int((view.width_px - 60) / each_px))
    legend_px = LEGEND_ROW_PX * -(-len(names) // columns) if len(names) > 1 else 0
    panels_px = PANEL_PX * len(drawing.panels) if len(drawing.panels) > 1 else ONE_PANEL_PX
    return int(layout["margin"]["t"]) + panels_px + X_AXIS_PX + legend_px


def _class_name(uid: str) -> str:
    """The uid in letters that a CSS selector takes: Plotly looks colour bars up by it. Different stay different."""
    return re.sub(r"[^A-Za-z0-9-]", lambda found: f"_{ord(found[0]):x}_", uid)


def _head(layout: dict[str, Any], spec: FigureSpec, drawing: Drawing, view: View) -> None:
    """The title at the top, the notes under it, and above each panel what it shows, with its unit."""
    muted = theme.palette(view).muted
    layout["title"] = {
        "text": f"<b>{theme.plain_text(spec.title)}</b>", "font": {"size": 15}, "x": 0, "xref": "container",
        "xanchor": "left", "y": 1, "yref": "container", "yanchor": "top", "pad": {"l": 12, "t": 12},
    }  # fmt: skip
    words = {"showarrow": False, "xref": "paper", "yref": "paper", "x": 0, "xanchor": "left", "yanchor": "bottom",
             "align": "left", "borderpad": 0}  # fmt: skip
    notes = [theme.wrap(theme.plain_text(note), view, 11) for note in drawing.notes]
    lines = sum(note.count("<br>") + 1 for note in notes)
    above = PANEL_TITLE_PX if drawing.panels else 6
    found = list(layout.get("annotations", []))
    if notes:
        font = {"size": 11, "color": muted}
        found.append({**words, "text": "<br>".join(notes), "y": 1, "yshift": above, "font": font, "name": "notes"})
    for index, title in enumerate(drawing.panels):
        top = layout["yaxis" if index == 0 else f"yaxis{index + 1}"]["domain"][1]
        font = {"size": 12, "color": theme.palette(view).text}
        found.append({**words, "text": theme.plain_text(title), "y": top, "yshift": 2, "font": font, "name": "panel"})
    layout["annotations"] = found
    layout["margin"] = {**layout["margin"], "t": TITLE_PX + above + NOTE_PX * lines}


def _axis(view: View, chosen: dict[str, Any]) -> dict[str, Any]:
    """The style of an axis with what a figure chose for it."""
    style = theme.axis_style(view)
    return {**style, **chosen, "title": {**style["title"], **chosen.get("title", {"text": ""})}}


def _panel_axes(drawing: Drawing, view: View) -> dict[str, Any]:
    """y axes from top to bottom over one x axis, which stands under the last."""
    log_y = view.log_y if drawing.log_y is None else drawing.log_y
    count = len(drawing.panels)
    gap = 0.12 if count > 1 else 0.0
    height = (1 - gap * (count - 1)) / count
    axes: dict[str, Any] = {}
    for index in range(count):
        top = 1 - index * (height + gap)
        axes["yaxis" if index == 0 else f"yaxis{index + 1}"] = _axis(view, {
            "anchor": "x", "domain": [max(0.0, top - height), top], "type": "log" if log_y else "linear",
            "exponentformat": "power", "minexponent": 5, "separatethousands": True,
        })  # fmt: skip
    bottom = "y" if count == 1 else f"y{count}"
    return {**axes, "xaxis": _axis(view, {**drawing.x_axis, "anchor": bottom})}


def _keep_zoom(layout: dict[str, Any], view: View) -> None:
    """A zoom is kept while its axis means the same: each axis has a revision of its own, the legend the figure's."""
    for name, axis in layout.items():
        if name.startswith("xaxis"):
            axis["uirevision"] = f"{view.x} {axis.get('type')}"
        elif name.startswith("yaxis"):
            axis["uirevision"] = f"{axis.get('type')} {view.layer}"
