"""The hypergraph of a layer: the weight of each hyperedge over steps, and the hypergraph as a drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from moe_hub.architectures import logged_hyperedges
from moe_hub.config.model import ModelConfig
from moe_hub.figures import theme
from moe_hub.figures.drawing import Drawing, Trace
from moe_hub.figures.lines import Curve, add_curves, metric_curve, present, reference
from moe_hub.figures.parts import chosen_layer, expert_name, first_with, row_at_end
from moe_hub.figures.spec import figure
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory

MOST_EDGES = 120
METRIC = "coupling/hyperedge_weight"
Edge = tuple[int, ...]


def edges_of(history: RunHistory, count: int) -> list[Edge] | None:
    """Members of each logged hyperedge, from the run's config; None where config and log do not fit each other."""
    values = history.config.get("model", {})
    try:
        edges = logged_hyperedges(ModelConfig.model_validate(_plain(values)))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return edges if len(edges) == count else None


def _plain(value: object) -> object:
    if hasattr(value, "items"):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _edge_name(edge: Edge | None, index: int, experts: int) -> str:
    if edge is None:
        return f"hyperedge {index}"
    return "{" + ", ".join(str(m) if m < experts else f"ghost {m - experts}" for m in edge) + "}"


def _experts(history: RunHistory) -> int:
    count = history.config.get("model", {}).get("num_experts")
    return count if isinstance(count, int) else 0


@figure("Architecture", "Hypergraph Edge Weights", (METRIC, "coupling/edge_weight"))
def hypergraph_edge_weights(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Which groups of experts has the model learned to connect more, or less?

    The weight of each hyperedge of the chosen layer over the steps, named by its experts. A line above 1 is a group
    whose messages count more than they did at the start. 0 while a ghost of the group sleeps. For message passing
    over single edges (gnn) the lines are the learned factors of the directed edges.

    Null value: 1 for a hyperedge, 0.5 for a directed edge: where all begin.
    """
    drawing = Drawing(panels=["weight"])
    names = [name for name in (METRIC, "coupling/edge_weight") if any(name in one.names() for one in histories)]
    history = first_with(histories, names[0], drawing) if names else None
    if history is None:
        return drawing
    metric = names[0]
    values = history.arrays(metric)[1]
    layer = chosen_layer(values.shape[1], view, drawing)
    edges = edges_of(history, values.shape[2]) if metric == METRIC else None
    wanted = _most_changed(values[-1, layer], drawing)
    curves: list[Curve | None] = []
    for place, index in enumerate(wanted):
        colour, dash = theme.line_style(place, view)
        if metric == METRIC:
            name = _edge_name(edges[index] if edges else None, index, _experts(history))
        else:
            name = _directed_name(index, values.shape[2])
        curves.append(metric_curve(history, metric, view, name, colour, (layer, index), dash=dash))
    add_curves(drawing, present(curves), view)
    reference(drawing, "null", "where all begin", 1.0 if metric == METRIC else 0.5, view)
    return drawing


def _most_changed(weights: np.ndarray, drawing: Drawing, most: int = 60) -> list[int]:
    if weights.size <= most:
        return list(range(weights.size))
    drawing.note(f"the {most} of {weights.size:,} that are farthest from their mean now")
    finite = weights[np.isfinite(weights)]
    far = np.nan_to_num(np.abs(weights - (finite.mean() if finite.size else 0.0)))
    return sorted(np.argsort(-far, kind="stable")[:most].tolist())


def _directed_name(index: int, count: int) -> str:
    """Row by row without the diagonal: E (E - 1) edges."""
    experts = round((1 + math.sqrt(1 + 4 * count)) / 2)
    row, column = divmod(index, experts - 1)
    return f"{row} reads {column + (column >= row)}"


@figure("Architecture", "Hypergraph", (METRIC,))
def hypergraph(histories: Sequence[RunHistory], view: View) -> Drawing:
    """What does the hypergraph of a layer look like now?

    Experts stand on a circle (ghosts as open circles). A hyperedge of two is a line; one of three or more is an area
    whose spokes meet in a point, so that hyperedges over the same experts can be told apart. Width and colour show the
    learned weight: blue below 1, orange above. Values of the newest logged step, or of the right end of the visible
    range. Hyperedges whose ghost sleeps have weight 0 and are not drawn.

    Null value: all hyperedges alike, weight 1.
    """
    drawing = Drawing()
    history = first_with(histories, METRIC, drawing)
    if history is None:
        return drawing
    values = history.arrays(METRIC)[1]
    layer = chosen_layer(values.shape[1], view, drawing)
    weights = row_at_end(history, METRIC, view, drawing)[layer]
    edges = edges_of(history, weights.size)
    if edges is None:
        drawing.note("the config of this run does not name the members of its hyperedges")
        return drawing
    count = max(max(edge) for edge in edges) + 1
    angle = math.pi / 2 - 2 * math.pi * np.arange(count) / count
    at = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    shown = [index for index in _order(weights, drawing) if np.isfinite(weights[index]) and weights[index] > 0]
    spread = max(float(np.abs(weights[shown] - 1).max()) if shown else 0.0, 0.1)
    drawing.traces = [
        _edge(history, index, edges[index], float(weights[index]), spread, at, view) for index in shown
    ]  # fmt: skip
    drawing.traces += [_nodes(history, at, view), _scale(spread, view)]
    hidden = {"visible": False, "fixedrange": False}
    drawing.layout = {"xaxis": hidden, "yaxis": {**hidden, "scaleanchor": "x"}, "showlegend": False,
                      "hovermode": "closest"}  # fmt: skip
    return drawing


def _order(weights: np.ndarray, drawing: Drawing) -> list[int]:
    """The farthest from 1 last, so that they lie on top; only so many."""
    far = np.nan_to_num(np.abs(weights - 1))
    order: list[int] = np.argsort(far, kind="stable").tolist()
    if len(order) > MOST_EDGES:
        drawing.note(f"the {MOST_EDGES} of {len(order):,} hyperedges whose weight is farthest from 1")
    return order[-MOST_EDGES:]


def _edge(
    history: RunHistory, index: int, edge: Edge, weight: float, spread: float, at: np.ndarray, view: View
) -> Trace:
    colour = _colour(weight, spread, view)
    corners = at[list(edge)]
    middle = corners.mean(0)
    if len(edge) > 2:  # sets with the same centre are told apart by a small turn of their meeting point
        middle = middle + 0.07 * np.array([math.cos(2.4 * index), math.sin(2.4 * index)])
    path = [corners[0], middle, corners[1]] if len(edge) == 2 else _star(corners, middle)
    x, y = ([None if point is None else float(point[axis]) for point in path] for axis in (0, 1))
    name = _edge_name(edge, index, _experts(history))
    return {
        "type": "scatter", "mode": "lines", "uid": f"{history.run_id}/{METRIC}/{index}/edge", "name": name,
        "x": x, "y": y, "line": {"color": colour, "width": 1 + 5 * min(weight, 3) / 3},
        "fill": "toself" if len(edge) > 2 else "none", "fillcolor": theme.faint(colour, 0.08), "opacity": 0.9,
        "hoveron": "points", "hovertemplate": f"{name}<br>weight {weight:.4f}<extra></extra>", "xaxis": "x",
        "yaxis": "y",
    }  # fmt: skip


def _star(corners: np.ndarray, middle: np.ndarray) -> list[np.ndarray]:
    """Out and back along each spoke."""
    path = []
    for corner in corners:
        path += [corner, middle]
    return [*path, corners[0]]


def _colour(weight: float, spread: float, view: View) -> str:
    """Between the ends of the diverging colours; 1 is the muted middle."""
    colours = theme.palette(view)
    share = max(-1.0, min(1.0, (weight - 1) / spread))
    end = colours.diverging[-1] if share > 0 else colours.diverging[0]
    return theme.mix(colours.muted, end, abs(share))


def _nodes(history: RunHistory, at: np.ndarray, view: View) -> Trace:
    experts = _experts(history)
    colours = theme.palette(view)
    names = [expert_name(index, experts) for index in range(len(at))]
    return {
        "type": "scatter", "mode": "markers+text", "uid": f"{history.run_id}/nodes", "name": "experts",
        "x": at[:, 0], "y": at[:, 1], "text": [str(i) if i < experts else f"G{i - experts}" for i in range(len(at))],
        "hovertext": names, "hovertemplate": "%{hovertext}<extra></extra>", "textfont": {"color": colours.paper},
        "marker": {"size": 26, "color": [colours.text if i < experts else colours.muted for i in range(len(at))],
                   "line": {"width": 2, "color": colours.paper}},
        "cliponaxis": False, "xaxis": "x", "yaxis": "y",
    }  # fmt: skip


def _scale(spread: float, view: View) -> Trace:
    """A trace with no point, for its colour bar."""
    colours = theme.palette(view)
    scale = [[0.0, colours.diverging[0]], [0.5, colours.muted], [1.0, colours.diverging[-1]]]
    return {
        "type": "scatter", "mode": "markers", "uid": "scale", "x": [None], "y": [None], "hoverinfo": "skip",
        "marker": {
            "color": [1.0], "cmin": 1 - spread, "cmax": 1 + spread, "colorscale": scale, "showscale": True,
            "colorbar": {"title": {"text": "weight", "side": "top", "font": {"size": 11}}, "thickness": 12,
                         "outlinewidth": 0, "tickfont": {"size": 10}},
        }, "xaxis": "x", "yaxis": "y",
    }  # fmt: skip
