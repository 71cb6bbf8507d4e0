"""Is it learning? Loss on training and held-out data, and the terms of the geometric loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moe_hub.figures import theme
from moe_hub.figures.drawing import Drawing, Trace
from moe_hub.figures.lines import Curve, add_curves, metric_curve, present, run_label
from moe_hub.figures.smoothing import trend
from moe_hub.figures.spec import figure
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory

TREND_SHARE = 1 / 3  # of the visible rows, the last ones
MOST_EVENTS, MANY_EVENTS = 200, 24  # many are drawn small and faint: the curve is what counts
EVENTS = {
    "event/checkpoint": ("checkpoint", "diamond"),
    "event/pause": ("paused", "line-ns-open"),
    "event/resume": ("resumed", "triangle-right"),
}
GEOMETRIC_TERMS = ("orthogonality", "rotation_efficiency", "specialization")


@figure("Core", "Training Loss", ("train/loss", "val/loss"))
def training_loss(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Is the model still learning, and does what it learns hold on data it was not trained on?

    Cross entropy in nat per target token, on training batches (solid) and held-out data (dashed). The straight line is
    the trend of the last third of the visible training rows: its slope per 1,000 steps (per million tokens, per hour)
    with a 95 % interval; an interval that holds 0 means that the rows cannot tell whether the loss still falls. A gap
    that opens between train and eval is overfitting. Marks: checkpoints, pauses, resumes.

    Null value: a model that has learned nothing stands at ln(vocabulary); for 16 tokens that is 2.77 nat.
    """
    drawing = Drawing(panels=["loss, nat per token"])
    single = len(histories) == 1
    curves: list[Curve | None] = []
    for index, history in enumerate(histories):
        colour, dash = theme.line_style(index, view)
        held_out = theme.palette(view).lines[1] if single else colour
        label = "" if single else f"{run_label(history)} "
        group = "" if single else history.run_id
        eval_dash = "dash" if dash == "solid" else "dot"
        curves += [
            metric_curve(history, "train/loss", view, f"{label}train", colour, dash=dash, smoothed=True, group=group),
            metric_curve(history, "val/loss", view, f"{label}eval", held_out, dash=eval_dash, markers=single,
                         group=group, legend=single),
        ]  # fmt: skip
    add_curves(drawing, present(curves), view)
    if len(histories) <= 4:
        for index, history in enumerate(histories):
            _add_trend(drawing, history, index, view, "" if single else f"{run_label(history)} ")
            drawing.traces += _events(history, view, "" if single else f"{run_label(history)} ")
        _one_entry_each(drawing)
    return drawing


def _one_entry_each(drawing: Drawing) -> None:
    """One entry of the legend for each kind of event: all runs have the same marks, the pointer names the run."""
    named: set[str] = set()
    for trace in drawing.traces:
        if (kind := trace.get("legendgroup", "")) in EVENTS:
            trace["showlegend"] = kind not in named
            named.add(kind)


def _add_trend(drawing: Drawing, history: RunHistory, index: int, view: View, label: str) -> None:
    x, y = history.x_values("train/loss", view.x), history.series("train/loss")[1]
    if view.x_range is not None:
        seen = (x >= view.x_range[0]) & (x <= view.x_range[1])
        x, y = x[seen], y[seen]
    first = int(x.size * (1 - TREND_SHARE))
    x, y = x[first:], y[first:]
    line = trend(x, y)
    if line is None:
        return
    unit, per = {"step": (1e3, "1,000 steps"), "tokens": (1e6, "million tokens")}.get(view.x, (3600.0, "hour"))
    name = f"{label}trend"
    slope = f"{line.slope * unit:+.3g} ± {line.margin * unit:.2g} nat per {per}"
    ends = np.array([x[0], x[-1]]) if not view.log_x else np.geomspace(max(x[0], 1e-9), x[-1], 50)
    height = line.at(ends)
    drawing.traces.append({
        "type": "scatter", "mode": "lines", "uid": f"{history.run_id}/train/loss/trend", "name": theme.plain_text(name),
        "x": ends, "y": np.where(height > 0, height, np.nan) if view.log_y else height,
        "hovertemplate": f"{slope}: last {line.rows:,} visible rows, 95 %<extra>{theme.plain_text(name)}</extra>",
        "line": {"color": theme.palette(view).text, "width": 2, "dash": "longdash"}, "xaxis": "x", "yaxis": "y",
    })  # fmt: skip
    drawing.note(f"{name}: {slope}, 95 % interval, last third of the visible rows ({line.rows:,})")


def _events(history: RunHistory, view: View, label: str) -> list[Trace]:
    """Marks on the training curve in the rows where something happened to the run."""
    happened = {metric: _when(history, metric, view) for metric in EVENTS}
    if not any(at.size for at in happened.values()):
        return []
    curve = "train/loss" if history.series("train/loss")[1].size else "val/loss"
    x, y = history.x_values(curve, view.x), history.series(curve)[1]
    usable = np.isfinite(y) & ((y > 0) | (not view.log_y))
    x, y = x[usable], y[usable]
    traces = []
    for metric, (word, symbol) in EVENTS.items():
        at = happened[metric]
        if at.size == 0 or y.size == 0:
            continue
        height = y[np.clip(np.searchsorted(x, at, "right") - 1, 0, y.size - 1)]
        thin, many = symbol.startswith("line"), at.size > MANY_EVENTS
        traces.append({
            "type": "scatter", "mode": "markers", "uid": f"{history.run_id}/{metric}",
            "name": word, "legendgroup": metric, "x": at, "y": height,
            "opacity": 0.5 if many else 1.0,
            "marker": {"symbol": symbol, "size": (13 if thin else 8) - 3 * many, "color": theme.palette(view).muted,
                       "line": {"width": 2 if thin else 0, "color": theme.palette(view).muted}},
            "hovertemplate": f"%{{y:.5g}}<extra>{theme.plain_text(label + word)}</extra>", "xaxis": "x", "yaxis": "y",
        })  # fmt: skip
    return traces


def _when(history: RunHistory, metric: str, view: View) -> np.ndarray:
    """Visible x of the rows of an event; the last ones where there are very many."""
    at = history.x_values(metric, view.x)[history.series(metric)[1] > 0]
    if view.x_range is not None:
        at = at[(at >= view.x_range[0]) & (at <= view.x_range[1])]
    return at[-MOST_EVENTS:]


@figure("Geometric", "Geometric Loss Components", tuple(f"loss/{term}" for term in GEOMETRIC_TERMS))
def geometric_loss_components(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Which part of the geometric loss is the optimizer paying for?

    Above: the task loss and the total that is minimised, in nat. Below: the three terms, each between 0 and 1 and
    before its weight (the weight from the config stands in the legend). Where total and task run together, the terms
    cost little; a term that falls while the task loss rises was bought with accuracy.

    Null values: orthogonality 0 (independent experts), rotation efficiency 0 (no rotation), specialization 1 (a gate
    that treats all tokens alike).
    """
    drawing = Drawing(panels=["nat per token", "terms before weights, 0 to 1"])
    single = len(histories) == 1
    curves: list[Curve | None] = []
    for index, history in enumerate(histories):
        colours = theme.palette(view).lines
        label = "" if single else f"{run_label(history)} "
        dash = theme.DASHES[index % len(theme.DASHES)]
        curves += [
            metric_curve(history, f"loss/{name}", view, f"{label}{name}", colours[place], dash=dash, smoothed=True)
            for place, name in enumerate(("total", "task"))
        ]
        for place, term in enumerate(GEOMETRIC_TERMS):
            name = f"{label}{term.replace('_', ' ')}{_weight(history, term)}"
            curves.append(metric_curve(history, f"loss/{term}", view, name, colours[place + 2], dash=dash,
                                       smoothed=True, panel=1))  # fmt: skip
    add_curves(drawing, present(curves), view)
    return drawing


def _weight(history: RunHistory, term: str) -> str:
    weights = history.config.get("train", {}).get("loss_weights", {})
    value = weights.get(term) if hasattr(weights, "get") else None
    return f" (x {value:g})" if isinstance(value, int | float) else ""
