"""What a terminal shows of a run: the same measurements as the page's figures, each as a panel of rows.

Legend: S rows that have a metric, L layers, E experts, P rotation dims, G ghosts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_hub.figures.alarms import alarms
from moe_hub.figures.parts import expert_name, primary_experts
from moe_hub.runs.history import RunHistory
from moe_hub.terminal.drawing.cells import Row
from moe_hub.terminal.drawing.curves import Curve, chart, legend, level
from moe_hub.terminal.drawing.shades import bars, heatmap

MOST_ROWS = 4096  # of an array metric that are looked at: more than any terminal has columns
Draw = Callable[[int, int, bool], list[Row]]  # (width, height, ascii_only) -> rows


@dataclass(frozen=True)
class Panel:
    """One part of the watch screen; `height` rows serve it well. `known` is False where the run has logged nothing
    for it: then `draw` says what would stand there."""

    key: str
    title: str
    height: int
    draw: Draw
    known: bool = True


def layers_of(history: RunHistory) -> int:
    """Layers that the array metrics know; at least 1."""
    for name in ("expert/load", "rotation/theta_rad", "ghost/saturation"):
        values = history.arrays(name)[1]
        if values.ndim > 1:
            return int(values.shape[1])
    return 1


def panels(history: RunHistory, layer: int = 0) -> list[Panel]:
    """All panels, those without data too, in the order of the screen."""
    layer = min(layer, layers_of(history) - 1)
    return [
        loss_panel(history),
        _load_panel(history, layer),
        _rotation_panel(history, layer),
        _saturation_panel(history, layer),
        _phase_panel(history),
        alarm_panel(history),
    ]


def loss_panel(history: RunHistory) -> Panel:
    """Training and held-out loss over the steps."""
    curves = [
        Curve(name, steps.astype(np.float64), values, f"line {index}")
        for index, (name, metric) in enumerate((("train loss", "train/loss"), ("val loss", "val/loss")))
        for steps, values in [history.series(metric)]
        if steps.size
    ]
    title = "Loss" if history.complete else f"Loss (a sample of about {history.total_rows:,} rows while they are read)"
    return _curve_panel("loss", title, curves, "no step has been logged yet", 12)


def alarm_panel(history: RunHistory) -> Panel:
    """Dead experts, values that are not finite, loss spikes."""
    found = history.remember("terminal alarms", lambda: _Alarms([alarm.text for alarm in alarms(history)])).texts

    def draw(width: int, height: int, ascii_only: bool) -> list[Row]:
        if not found:
            return [[("none", "muted")]]
        rows: list[Row] = [[(f"! {text}", "alarm")] for text in found]
        return rows if len(rows) <= height else [*rows[: height - 1], [(f"{len(rows) - height + 1} more", "muted")]]

    return Panel("alarms", "Alarms" + (f" ({len(found)})" if found else ""), max(1, min(6, len(found))), draw)


@dataclass(frozen=True)
class _Alarms:
    texts: list[str]


def _load_panel(history: RunHistory, layer: int) -> Panel:
    steps, values_SE = _thin(*_of_layer(history, "expert/load", layer))
    if not steps.size:
        return _nothing("load", "Expert load", "no expert load has been logged yet")
    experts = values_SE.shape[1]
    names = [expert_name(index, primary_experts(history, experts)) for index in range(experts)]
    finite = values_SE[np.isfinite(values_SE)]
    high = max(float(finite.max()) if finite.size else 1.0, 2 / experts)

    def draw(width: int, height: int, ascii_only: bool) -> list[Row]:
        shown = max(1, height - 1)
        cut = values_SE[:, :shown]
        return heatmap(steps, cut, names[:shown], width, low=0.0, high=high, ascii_only=ascii_only)

    title = f"Expert load, layer {layer} (even: {1 / experts:.3g})"
    return Panel("load", title, min(experts, 12) + 1, draw)


def _rotation_panel(history: RunHistory, layer: int) -> Panel:
    steps, values_SEP = _thin(*_of_layer(history, "rotation/theta_rad", layer))
    title = f"Rotation angles in rad, layer {layer}, a colour for each expert"
    x = steps.astype(np.float64)
    curves = [
        Curve(f"expert {expert}", x, values_SEP[:, expert, plane].astype(np.float64), f"line {expert}")
        for expert in range(values_SEP.shape[1] if steps.size else 0)
        for plane in range(values_SEP.shape[2])
    ]
    return _curve_panel("rotation", title, curves, "this run has no rotations, or has logged none yet", 10)


def _saturation_panel(history: RunHistory, layer: int) -> Panel:
    steps, values_S = _thin(*_of_layer(history, "ghost/saturation", layer))
    title = f"Ghost saturation, layer {layer}"
    if not steps.size:
        return _nothing("saturation", title, "this run has no ghosts, or has logged no saturation yet")
    curves = [Curve("saturation", steps.astype(np.float64), values_S.astype(np.float64), "line 0")]
    threshold = _threshold(history)
    if threshold is not None:
        curves.append(level(f"threshold {threshold:.4g}", threshold))
    awake = history.arrays("ghost/activation")[1]
    if awake.ndim == 3 and len(awake):
        title += f" ({int((awake[-1] > 0).sum())} of {awake[-1].size} ghosts awake)"
    return _curve_panel("saturation", title, curves, "", 9)


def _phase_panel(history: RunHistory) -> Panel:
    names = history.matching("lambda/exact_match/")
    named = [("all tasks", "val/exact_match"), *((name.rpartition("/")[2], name) for name in names)]
    newest = [(label, values[-1]) for label, name in named if (values := history.series(name)[1]).size]
    if not newest:
        return _nothing("phases", "Exact match by phase", "no evaluation has judged answers yet")
    title = f"Exact match by phase (step {int(history.series(_first_known(history, named))[0][-1]):,})"

    def draw(width: int, height: int, ascii_only: bool) -> list[Row]:
        return bars(newest[:height], width, ascii_only=ascii_only)

    return Panel("phases", title, len(newest), draw)


def _first_known(history: RunHistory, named: list[tuple[str, str]]) -> str:
    return next(name for _, name in named if history.series(name)[0].size)


def _threshold(history: RunHistory) -> float | None:
    """The newest threshold in use, else that of the config."""
    logged = history.series("ghost/threshold")[1]
    logged = logged[np.isfinite(logged)]
    if logged.size:
        return float(logged[-1])
    model: Any = history.config.get("model", {})
    known = model.get("ghost", {}).get("activation_threshold")
    return float(known) if isinstance(known, int | float) else None


def _curve_panel(key: str, title: str, curves: list[Curve], nothing: str, height: int) -> Panel:
    if not curves:
        return _nothing(key, title, nothing)
    named = list({curve.name: curve for curve in curves}.values())

    def draw(width: int, height: int, ascii_only: bool) -> list[Row]:
        body = chart(curves, width, max(2, height - 1), ascii_only=ascii_only)
        return [*body, legend(named, width, ascii_only=ascii_only)]

    return Panel(key, title, height, draw)


def _nothing(key: str, title: str, why: str) -> Panel:
    return Panel(key, title, 1, lambda width, height, ascii_only: [[(why, "muted")]], known=False)


def _of_layer(history: RunHistory, name: str, layer: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Steps (S,) and values (S, ...) of one layer; empty where there are none."""
    steps, values = history.arrays(name)
    if values.ndim < 2 or not len(steps):
        return np.empty(0, np.int64), np.empty((0, 0, 0))
    return steps, values[:, min(layer, values.shape[1] - 1)]


def _thin(steps: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """At most about `MOST_ROWS` rows, evenly spread, the last one among them."""
    stride = -(-len(steps) // MOST_ROWS) or 1
    kept = slice((len(steps) - 1) % stride if len(steps) else 0, None, stride)
    return steps[kept], values[kept]
