"""Runs against each other: curves with mean and band over groups, config differences, final metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from moe_hub.figures import theme
from moe_hub.figures.buckets import visible
from moe_hub.figures.drawing import Drawing, Trace, compact
from moe_hub.figures.heatmaps import color_bar
from moe_hub.figures.lines import Curve, add_curves, metric_curve, present, run_label
from moe_hub.figures.smoothing import smooth
from moe_hub.figures.spec import figure
from moe_hub.figures.tables import FINAL_FIRST, config_difference, final_metrics, flat_config
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory
from moe_hub.runs.metrics import find_metric

MOST_RUNS = 200
GRID_POINTS = 400
MOST_CELL_TEXTS, CELL_TEXT_PX = 600, 64
_PREFERRED = ("val/loss", "train/loss", "loss/total")


@figure("Compare", "Overlay of Runs", ("*",), several=2, most=MOST_RUNS)
def overlay_of_runs(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Which run, or which setting, is better, and is the difference larger than chance?

    One metric of all selected runs (the metric can be chosen), by step, tokens, time spent training, or time. Grouped
    by a config key, runs that share its value are drawn as their mean with a band of one standard deviation; group by
    anything but the seed to see the spread over seeds. Means are drawn only where all runs of a group have rows.
    Bands that overlap mean that these runs cannot tell the settings apart.

    Null value: that of the metric; for a loss, ln(vocabulary).
    """
    metric = view.metric or _default_metric(histories)
    known = find_metric(metric)
    drawing = Drawing(panels=[f"{metric}{', ' + known.unit if known and known.unit else ''}"])
    with_values = [history for history in histories if history.series(metric)[1].size]
    if len(with_values) < len(histories):
        drawing.note(f"{len(histories) - len(with_values)} of {len(histories)} runs have no {metric}")
    if view.group_by is None:
        curves = []
        for index, history in enumerate(with_values):
            colour, dash = theme.line_style(index, view)
            curves.append(metric_curve(history, metric, view, run_label(history), colour, dash=dash, smoothed=True))
        add_curves(drawing, present(curves), view)
        return drawing
    _add_groups(drawing, with_values, metric, view.group_by, view)
    return drawing


def _default_metric(histories: Sequence[RunHistory]) -> str:
    names = set().union(*(history.names() for history in histories))
    return next((name for name in _PREFERRED if name in names), _PREFERRED[0])


def group_runs(histories: Sequence[RunHistory], key: str) -> dict[str, list[RunHistory]]:
    """Runs by the value of a dotted config key, as text, in the order in which the values first come."""
    groups: dict[str, list[RunHistory]] = {}
    for history in histories:
        value = flat_config(history).get(key)
        groups.setdefault("none" if value is None else str(value), []).append(history)
    return groups


def _add_groups(drawing: Drawing, histories: Sequence[RunHistory], metric: str, key: str, view: View) -> None:
    """Mean and band of each group."""
    groups = group_runs(histories, key)
    curves, bands = [], []
    for index, (value, runs) in enumerate(groups.items()):
        colour, dash = theme.line_style(index, view)
        found = _group_curve(runs, metric, view)
        if found is None:
            drawing.note(f"{key} = {value}: the runs have no rows in common")
            continue
        x, mean, deviation = found
        name = f"{key} = {value} (n = {len(runs)})"
        curves.append(Curve(f"group/{key}/{value}/{metric}", name, x, mean, colour, dash=dash, width=2.2))
        if len(runs) > 1:
            bands.append(_band(f"group/{key}/{value}/{metric}/band", x, mean, deviation, colour, view))
    add_curves(drawing, curves, view)
    drawing.traces = [trace for trace in bands if trace] + drawing.traces
    drawing.note("mean over runs, where all of a group have rows; band: one standard deviation"
                 + (f"; smoothed first, weight {view.smoothing:g}" if view.smoothing else ""))  # fmt: skip


def _group_curve(
    runs: Sequence[RunHistory], metric: str, view: View
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """x, mean and standard deviation (n - 1) over the runs, where all of them have rows."""
    pieces = []
    for history in runs:
        x = history.x_values(metric, view.x)
        y = smooth(history.series(metric)[1], view.smoothing)
        kept = np.isfinite(y)
        order = np.argsort(x[kept], kind="stable")
        pieces.append((x[kept][order], y[kept][order]))
    if any(not x.size for x, _ in pieces):
        return None
    low, high = max(x[0] for x, _ in pieces), min(x[-1] for x, _ in pieces)
    if low > high:
        return None
    steps = np.unique(np.concatenate([x for x, _ in pieces]))
    grid = steps[(steps >= low) & (steps <= high)]
    if grid.size > GRID_POINTS:
        grid = _spread(grid, view)
    values = np.stack([np.interp(grid, x, y) for x, y in pieces])
    deviation = values.std(0, ddof=1) if len(runs) > 1 else np.zeros(grid.size)
    return grid, values.mean(0), deviation


def _spread(grid: np.ndarray, view: View) -> np.ndarray:
    """`GRID_POINTS` of the places, evenly over the visible part, the ends included."""
    window = visible(grid, view.x_range)
    part = grid[window]
    return part[np.unique(np.linspace(0, part.size - 1, min(part.size, GRID_POINTS)).astype(np.int64))]


def _band(uid: str, x: np.ndarray, mean: np.ndarray, deviation: np.ndarray, colour: str, view: View) -> Trace:
    low, high = mean - deviation, mean + deviation
    if view.log_y:
        low = np.where(low > 0, low, np.where(mean > 0, mean / 10, np.nan))
    kept = np.isfinite(low) & np.isfinite(high) & ((x > 0) | (not view.log_x))
    around = np.concatenate([x[kept], x[kept][::-1]])
    return {
        "type": "scatter", "mode": "lines", "uid": uid, "name": "band", "x": compact(around, exact=True),
        "y": np.concatenate([high[kept], low[kept][::-1]]), "fill": "toself", "fillcolor": theme.faint(colour, 0.18),
        "line": {"width": 0, "color": colour}, "hoverinfo": "skip", "showlegend": False, "xaxis": "x", "yaxis": "y",
    }  # fmt: skip


@figure("Compare", "Config Difference", ("*",), several=2, most=MOST_RUNS)
def config_difference_of_runs(histories: Sequence[RunHistory], view: View) -> Drawing:
    """In which settings do these runs differ?

    A row for each config key that is not the same in all runs, a column for each run; cells of one row with the same
    colour hold the same value. A comparison says something about one setting only where one row is left besides the
    seed. No null value: these are settings.
    """
    table = config_difference(histories)
    drawing = Drawing()
    if not table.rows:
        drawing.note("the configs are the same, apart from names that are not settings")
        return drawing
    places = []
    for row in table.rows:
        known: dict[str, int] = {}
        places.append([known.setdefault(repr(value), len(known)) for value in row[1:]])
    texts = [["" if value is None else str(value) for value in row[1:]] for row in table.rows]
    colours = theme.palette(view)
    tones = [theme.mix(colours.paper, tone, 0.35) for tone in (colours.muted, *colours.lines)]
    count = len(tones)
    drawing.traces.append(_cells(
        "config-difference", [row[0] for row in table.rows], table.columns[1:], histories,
        np.array(places, dtype=np.float64) % count, texts, view, colorscale=_steps(tones), zmin=-0.5, zmax=count - 0.5,
        showscale=False,
    ))  # fmt: skip
    drawing.layout = _cell_axes(view)
    drawing.height_px = 140 + 24 * len(table.rows)
    return drawing


@figure("Compare", "Final Metrics", ("*",), most=MOST_RUNS)
def final_metrics_of_runs(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Where did each run end?

    A row per metric, a column per run: the last logged value (of held-out loss and exact match also the best). The
    colour compares the runs within a row: blue lowest, orange highest. Compare losses only between runs on the same
    data and tokenizer, and remember that the last value of one seed is one draw. Null values stand in the help of
    each metric's own figure.
    """
    table = final_metrics(histories, FINAL_FIRST)
    drawing = Drawing()
    names = table.columns[2:]
    values = np.array([[np.nan if v is None else float(v) for v in row[2:]] for row in table.rows]).T
    if not np.isfinite(values).any():
        return drawing
    finite = np.where(np.isfinite(values), values, np.nan)
    with np.errstate(all="ignore"):
        low, high = _range(finite)
        share = np.where(high > low, (finite - low) / np.where(high > low, high - low, 1.0), 0.5)
    share = np.where(np.isfinite(finite), share, np.nan)
    texts = [[_number(value) for value in row] for row in values.tolist()]
    drawing.traces.append(_cells(
        "final-metrics", names, [row[0] for row in table.rows], histories, share, texts, view, zmin=0, zmax=1,
        colorscale=theme.color_scale(theme.palette(view).diverging),
        colorbar={**color_bar("within<br>the row", view), "tickvals": [0, 1], "ticktext": ["lowest", "highest"]},
    ))  # fmt: skip
    drawing.layout = _cell_axes(view)
    drawing.height_px = 140 + 24 * len(names)
    return drawing


def _range(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low = np.where(np.isfinite(values), values, np.inf).min(1, keepdims=True)
    high = np.where(np.isfinite(values), values, -np.inf).max(1, keepdims=True)
    return low, high


def _number(value: float) -> str:
    return "" if value != value else f"{value:,.0f}" if value == int(value) and abs(value) < 1e9 else f"{value:.5g}"


def _cells(
    uid: str, rows: Sequence[str], columns: Sequence[str], histories: Sequence[RunHistory], z: np.ndarray,
    texts: list[list[str]], view: View, **style: Any,
) -> Trace:  # fmt: skip
    """A heatmap with a text in each cell; columns with the same label are told apart by the end of the run's id."""
    names = [
        f"{name} {history.run_id[-4:]}" if list(columns).count(name) > 1 else name
        for name, history in zip(columns, histories, strict=True)
    ]
    trace: Trace = {
        "type": "heatmap", "uid": uid, "name": uid, "x": [theme.plain_text(name) for name in names],
        "y": [theme.plain_text(row) for row in rows], "z": z, "xgap": 1, "ygap": 1, "hoverongaps": False,
        "text": [[theme.plain_text(text) for text in row] for row in texts],
        "hovertemplate": "%{x}<br>%{y} = %{text}<extra></extra>", **style,
    }  # fmt: skip
    if len(rows) * len(columns) <= MOST_CELL_TEXTS and len(columns) * CELL_TEXT_PX < view.width_px - 150:
        trace |= {"texttemplate": "%{text}", "textfont": {"size": 10}}
    return trace


def _steps(tones: Sequence[str]) -> list[list[Any]]:
    """A colour scale of even steps."""
    scale: list[list[Any]] = []
    for index, tone in enumerate(tones):
        scale += [[index / len(tones), tone], [(index + 1) / len(tones), tone]]
    return scale


def _cell_axes(view: View) -> dict[str, Any]:
    axis = {**theme.axis_style(view), "type": "category", "showgrid": False, "ticks": ""}
    return {"xaxis": {**axis, "side": "bottom"}, "yaxis": {**axis, "autorange": "reversed"}}
