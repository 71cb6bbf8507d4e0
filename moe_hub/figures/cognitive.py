"""Lambda calculus: the rotation of each reasoning phase, and how many tasks are answered exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from moe_hub.figures import theme
from moe_hub.figures.drawing import Drawing, Trace
from moe_hub.figures.heatmaps import cell_words, color_bar
from moe_hub.figures.lines import Curve, add_curves, metric_curve, present, run_label
from moe_hub.figures.parts import chosen_layer, first_with, first_with_any, known_panels, row_at_end
from moe_hub.figures.spec import figure
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory

PHASES = ("syntax", "reduction", "semantic", "pedagogical")


def phase_name(index: int) -> str:
    """Name of a phase by its place in the logged arrays."""
    return PHASES[index] if index < len(PHASES) else f"phase {index}"


@figure("Lambda", "Cognitive Rotation Schedule", ("lambda/phase_weight", "lambda/phase_offset_rad"))
def cognitive_rotation_schedule(histories: Sequence[RunHistory], view: View) -> Drawing:
    """When is the rotation of each reasoning phase switched on, and how far?

    Above: the weight of each phase, 0 off to 1 fully on. Below: the angle by which the tokens of that phase are
    turned, in radians; fully on, the phases stand at 0, 90, 180 and 270 degrees. A phase that waits for another one
    is a flat line at 0 until it is unlocked.

    Null value: weight 0 for all phases after the first, which is the model without cognitive rotations.
    """
    titles = {"lambda/phase_weight": "weight of the phase, 0 to 1", "lambda/phase_offset_rad": "angle, rad"}
    drawing = Drawing()
    history = first_with_any(histories, titles, drawing)
    if history is None:
        return drawing
    curves: list[Curve | None] = []
    for panel, name in enumerate(known_panels(drawing, [history], titles)):
        shape = history.arrays(name)[1].shape
        for phase in range(shape[1] if len(shape) == 2 else 0):
            colour, dash = theme.line_style(phase, view)
            curves.append(metric_curve(history, name, view, phase_name(phase), colour, (phase,), dash=dash, panel=panel,
                                       legend=panel == 0, group=phase_name(phase)))  # fmt: skip
    add_curves(drawing, present(curves), view)
    return drawing


@figure("Lambda", "Lambda Rotation Patterns", ("lambda/phase_offset_rad",))
def lambda_rotation_patterns(histories: Sequence[RunHistory], view: View) -> Drawing:
    """By what angle does each expert see the tokens of each reasoning phase?

    A column per phase, a row per expert and plane of the chosen layer: the expert's learned angle plus the angle of
    the phase, in degrees between -180 and 180, at the newest logged step or at the right end of the visible range.
    The phases turn the last quarter of the planes, so this is what tokens meet there; elsewhere the phase adds
    nothing. Only Givens rotations turn the same planes as the phases; for others the phase alone is shown.

    Null value: 0, 90, 180 and -90 degrees for every expert: experts that have learned no angle of their own.
    """
    drawing = Drawing()
    history = first_with(histories, "lambda/phase_offset_rad", drawing)
    if history is None:
        return drawing
    offset_S = row_at_end(history, "lambda/phase_offset_rad", view, drawing)
    angle, rows = _angles(history, offset_S, view, drawing)
    if not np.isfinite(angle).any():
        return drawing
    colours = theme.palette(view)
    trace: Trace = {
        "type": "heatmap", "uid": f"{history.run_id}/patterns", "name": "angle", "y": rows,
        "x": [phase_name(phase) for phase in range(offset_S.size)], "z": angle, "zmin": -180, "zmax": 180,
        "colorscale": _circular(colours.diverging), "colorbar": {**color_bar("degrees", view),
                                                                 "tickvals": [-180, -90, 0, 90, 180]},
        "hovertemplate": "%{y}, %{x}<br>%{z:.1f} degrees<extra></extra>", "xgap": 1, "ygap": 1,
    }  # fmt: skip
    drawing.traces.append(trace)
    axis = {**theme.axis_style(view), "type": "category", "showgrid": False}
    words = cell_words(trace, "{:z.0f}°", view) if len(rows) <= 24 else []
    drawing.layout = {"xaxis": axis, "yaxis": {**axis, "autorange": "reversed"}, "annotations": words}
    drawing.height_px = 150 + 18 * len(rows) if words else 0  # a line of text fits into a cell
    return drawing


def _circular(diverging: tuple[str, ...]) -> list[list[Any]]:
    """-180 and 180 degrees are the same angle and get the same colour."""
    low, half_low, middle, half_high, _ = diverging
    return theme.color_scale((low, half_low, middle, half_high, low))


def _angles(history: RunHistory, offset_S: np.ndarray, view: View, drawing: Drawing) -> tuple[np.ndarray, list[str]]:
    """Degrees (rows, phases) and the names of the rows."""
    kind = history.config.get("model", {}).get("geometric", {}).get("rotation_type", "givens")
    theta = history.arrays("rotation/theta_rad")[1]
    if kind != "givens" or theta.ndim != 4 or not len(theta):
        drawing.note("angle of the phase alone")
        return _wrapped(offset_S[None]), ["all experts"]
    layer = chosen_layer(theta.shape[1], view, drawing)
    theta_EP = row_at_end(history, "rotation/theta_rad", view, drawing)[layer]
    rows = [f"E{expert} plane {plane}" for expert, plane in np.ndindex(*theta_EP.shape)]
    return _wrapped(theta_EP.reshape(-1, 1) + offset_S), rows


def _wrapped(angle_rad: np.ndarray) -> np.ndarray:
    """Radians as degrees between -180 and 180; half a turn either way is shown as 180."""
    angle = (np.degrees(angle_rad) + 180) % 360 - 180
    return np.asarray(np.where(angle < -179.5, angle + 360, angle))


@figure("Lambda", "Reasoning Accuracy", ("val/exact_match*", "lambda/exact_match/*"))
def reasoning_accuracy(histories: Sequence[RunHistory], view: View) -> Drawing:
    """How many held-out tasks does the model answer exactly, and where does it fail?

    Above: exact match of whole answers with Wilson's 95 % interval, and of each reasoning phase given the true text
    before it. Below: exact match by number of reduction steps; the more steps, the harder. Intervals that overlap
    mean that the difference may be chance. Held-out terms are alpha-disjoint from the training terms.

    Null value: 0, a model that has learned nothing.
    """
    drawing = Drawing()
    single = len(histories) == 1
    by_depth = any(history.matching("val/exact_match/") for history in histories)
    drawing.panels = ["exact match, share", "exact match by reduction steps"][: 1 + by_depth]
    curves: list[Curve | None] = []
    for index, history in enumerate(histories):
        label = "" if single else f"{run_label(history)} "
        colour, dash = theme.line_style(index, view)
        curves.append(metric_curve(history, "val/exact_match", view, f"{label}all", colour, dash=dash, markers=True,
                                   width=2.2))  # fmt: skip
        for place, name in enumerate(sorted(history.matching("lambda/exact_match/"), key=_phase_order), 1):
            tone = theme.line_style(place, view)[0] if single else colour
            curves.append(metric_curve(history, name, view, f"{label}{name.rsplit('/', 1)[1]}", tone, markers=single,
                                       dash="dash" if single else theme.DASHES[place % 6], width=1.2))  # fmt: skip
        for place, name in enumerate(sorted(history.matching("val/exact_match/"), key=_depth)):
            tone = theme.line_style(place, view)[0] if single else colour
            curves.append(metric_curve(history, name, view, f"{label}k = {name.rsplit('/', 1)[1]}", tone, panel=1,
                                       markers=single, dash="dot" if single else theme.DASHES[place % 6]))  # fmt: skip
    add_curves(drawing, present(curves), view)
    if len(histories) <= 4:
        for trace in drawing.traces:
            _add_interval(trace, histories, view)
    return drawing


def _phase_order(name: str) -> int:
    tail = name.rsplit("/", 1)[1]
    return PHASES.index(tail) if tail in PHASES else len(PHASES)


def _depth(name: str) -> tuple[int, str]:
    tail = name.rsplit("/", 1)[1].split()[0]
    return (int(tail), name) if tail.isdigit() else (10**9, name)


def _add_interval(trace: Trace, histories: Sequence[RunHistory], view: View) -> None:
    """Error bars on the curve of all tasks; the interval was logged in the same rows."""
    history = next((one for one in histories if trace["uid"] == f"{one.run_id}/val/exact_match"), None)
    if history is None:
        return
    middle, low, high = (history.series(f"val/exact_match{end}") for end in ("", "_ci_low", "_ci_high"))
    if not (np.array_equal(middle[0], low[0]) and np.array_equal(middle[0], high[0])):
        return
    x = history.x_values("val/exact_match", view.x)
    place = np.searchsorted(x, np.asarray(trace["x"], dtype=np.float64))
    place = np.clip(place, 0, x.size - 1)
    trace["error_y"] = {
        "type": "data", "symmetric": False, "array": (high[1] - middle[1])[place],
        "arrayminus": (middle[1] - low[1])[place], "thickness": 1, "width": 3,
    }  # fmt: skip


@figure("Lambda", "Loss by Phase", ("lambda/loss/*",))
def loss_by_phase(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Which reasoning phase is still hard to predict?

    Cross entropy of the held-out tokens of each phase, in nat per token: syntax is the reading of the term, reduction
    its steps, semantic the normal form, pedagogical the explanation. Templated text is easy, so a low pedagogical
    loss says little; the semantic one is the task. Null value: ln(vocabulary).
    """
    drawing = Drawing(panels=["loss, nat per token"])
    single = len(histories) == 1
    curves: list[Curve | None] = []
    for index, history in enumerate(histories):
        for place, name in enumerate(sorted(history.matching("lambda/loss/"), key=_phase_order)):
            colour = theme.line_style(place, view)[0]
            dash = "solid" if single else theme.DASHES[index % len(theme.DASHES)]
            label = name.rsplit("/", 1)[1] if single else f"{run_label(history)} {name.rsplit('/', 1)[1]}"
            curves.append(metric_curve(history, name, view, label, colour, dash=dash, markers=single))
    add_curves(drawing, present(curves), view)
    return drawing
