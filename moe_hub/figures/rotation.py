"""What the rotations do: angles, whether they stay orthogonal, what they cost, and a probe vector in space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moe_hub.figures import theme
from moe_hub.figures.buckets import visible
from moe_hub.figures.drawing import Drawing, Trace, compact
from moe_hub.figures.lines import add_curves, metric_curve, present, reference
from moe_hub.figures.parts import chosen_layer, expert_curves, first_with, known_panels, layer_curves
from moe_hub.figures.spec import figure
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory

MOST_ANGLES = 64
MOST_PROBE_POINTS = 1500
DASH_WORDS = ("full", "dashed", "dotted", "dash-dot", "long dashes", "long dash-dot")
FP32_BOUND = 5e-6  # largest |R^T R - I| that rounding in fp32 explains


@figure("Geometric", "Rotation Angles Evolution", ("rotation/theta_rad",))
def rotation_angles_evolution(histories: Sequence[RunHistory], view: View) -> Drawing:
    """How far, and in which planes, has each expert turned the data it reads?

    One line per expert (colour) and plane (dash) of the chosen layer, in radians. Angles are periodic and never
    clipped; the dotted lines are the largest expected angle of the config. Lines of different experts that stay
    together mean that the experts read the data alike.

    Null value: 0 rad, no rotation, where every angle begins.
    """
    drawing = Drawing(panels=["angle, rad"])
    history = first_with(histories, "rotation/theta_rad", drawing)
    if history is None:
        return drawing
    theta = history.arrays("rotation/theta_rad")[1]
    layer = chosen_layer(theta.shape[1], view, drawing)
    wanted = _most_moved(theta[:, layer], drawing)
    named = dict(reversed(wanted))  # expert -> its first plane, which stands in the legend for all of them
    curves = [
        metric_curve(
            history, "rotation/theta_rad", view, f"expert {expert}", theme.line_style(expert, view)[0],
            (layer, expert, plane), dash=theme.DASHES[plane % len(theme.DASHES)], group=f"expert {expert}",
            hover=f"expert {expert}, plane {plane}", legend=plane == named[expert],
        )
        for expert, plane in wanted
    ]  # fmt: skip
    add_curves(drawing, present(curves), view)
    planes = [f"{plane} {word}" for plane, word in zip(range(theta.shape[3]), DASH_WORDS, strict=False)]
    drawing.note(f"planes: {', '.join(planes)}{' and so on' if theta.shape[3] > len(DASH_WORDS) else ''}")
    bound = _from_config(history, "max_angle_rad")
    if bound is not None and bool((np.abs(theta[:, layer]) > bound / 2).any()):
        reference(drawing, f"{history.run_id}/bound", "largest expected angle", bound, view)
        reference(drawing, f"{history.run_id}/-bound", "its negative", -bound, view, legend=False)
    return drawing


def _most_moved(theta: np.ndarray, drawing: Drawing) -> list[tuple[int, int]]:
    """(expert, plane) of all angles (rows, experts, planes), or of those that ended farthest from 0."""
    pairs = [(int(expert), int(plane)) for expert, plane in np.ndindex(*theta.shape[1:])]
    if len(pairs) <= MOST_ANGLES:
        return pairs
    size = np.nan_to_num(np.abs(theta[-1])).ravel()
    drawing.note(f"the {MOST_ANGLES} of {len(pairs):,} angles that are farthest from 0 now")
    return sorted(pairs[index] for index in np.argsort(-size, kind="stable")[:MOST_ANGLES].tolist())


@figure(
    "Geometric",
    "Orthogonality Preservation",
    ("rotation/orthogonality_error", "expert/orthogonality", "expert/weight_overlap"),
)
def orthogonality_preservation(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Are the rotations still rotations, and are the experts still different?

    Above: the largest entry of |R^T R - I| in each layer; below the dotted line (5e-6) it is rounding in fp32, above
    it R is no rotation any more. Below: normalised overlap of the experts' outputs, and of their weights, 0 where they
    are as independent as random directions, 1 where they have collapsed into one.

    Null values: error 0; overlaps 0 (the value of untrained, independent experts).
    """
    errors, overlap = "rotation/orthogonality_error", "expert/orthogonality"
    drawing = Drawing()
    titles = {
        errors: "largest |RᵀR − I|", overlap: "overlap of the outputs, 0 to 1",
        "expert/weight_overlap": "overlap of the weights, 0 to 1",
    }  # fmt: skip
    known = known_panels(drawing, histories, titles)
    curves = [
        curve for panel, name in enumerate(known) for curve in layer_curves(histories, name, view, drawing, panel)
    ]
    add_curves(drawing, curves, view)
    if errors in known:
        reference(drawing, "fp32-bound", "fp32 rounding, 5e-6", FP32_BOUND, view)
    return drawing


def _from_config(history: RunHistory, key: str) -> float | None:
    value = history.config.get("model", {}).get("geometric", {}).get(key)
    return float(value) if isinstance(value, int | float) else None


@figure("Geometric", "Rotation Efficiency", ("rotation/efficiency",))
def rotation_efficiency(histories: Sequence[RunHistory], view: View) -> Drawing:
    """How much does each expert turn its data: is the rotation used, or idle?

    The size of each expert's rotation in the chosen layer, (D - tr R) / 2D, that is the mean of (1 - cos angle) / 2
    over all planes: 0 is no rotation, 0.5 a quarter turn in every plane, 1 half a turn. It is also the term that the
    geometric loss charges for, so a flat low curve may be the price and not a lack of use.

    Null value: 0, where every rotation begins.
    """
    drawing = Drawing(panels=["size of the rotation, 0 to 1"])
    history = first_with(histories, "rotation/efficiency", drawing)
    if history is not None:
        layer = chosen_layer(history.arrays("rotation/efficiency")[1].shape[1], view, drawing)
        add_curves(drawing, expert_curves(history, "rotation/efficiency", layer, view), view)
    return drawing


@figure("Geometric", "3D Rotation Visualization", ("probe/rotated",))
def rotation_3d(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Where has each expert's rotation carried the same vector?

    The trajectory of one fixed probe vector p, a unit vector, under each expert's measured rotation of layer 0: the
    first three coordinates of R p at every logged step, from the open circle (start) to the filled one (now). Nothing
    is interpolated: each point is a logged row. Lines that part show experts that read the data from different sides.
    The three axes have their own scales.

    Null value: all experts at the open circle, as in an untrained model.
    """
    drawing = Drawing()
    history = first_with(histories, "probe/rotated", drawing)
    if history is None:
        return drawing
    steps, path = history.arrays("probe/rotated")
    x = history.x_values("probe/rotated", view.x)
    window = visible(x, view.x_range)
    steps, path = steps[window], path[window]
    kept = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MOST_PROBE_POINTS)).astype(np.int64))
    if kept.size < len(steps):
        drawing.note(f"{len(steps):,} rows, of which every {len(steps) // kept.size}th is drawn")
    for expert in range(path.shape[1]):
        drawing.traces += _trajectory(history, expert, steps[kept], path[kept, expert], view)
    names = ("x₁", "x₂", "x₃")
    axes = {axis: _axis_3d(name, view) for axis, name in zip(("xaxis", "yaxis", "zaxis"), names, strict=True)}
    drawing.layout = {
        "scene": {
            **axes,
            "aspectmode": "manual",
            "aspectratio": dict.fromkeys("xyz", 0.85),
            "uirevision": "rotation-3d",
        }
    }
    drawing.note("first three coordinates of R p, layer 0")
    return drawing


def _trajectory(history: RunHistory, expert: int, steps: np.ndarray, path: np.ndarray, view: View) -> list[Trace]:
    colour, dash = theme.line_style(expert, view)
    uid = f"{history.run_id}/probe/rotated/{expert}"
    finite = np.isfinite(path).all(1)
    line: Trace = {
        "type": "scatter3d", "mode": "lines", "uid": uid, "name": f"expert {expert}", "legendgroup": f"{expert}",
        **{axis: compact(path[:, index], exact=True) for index, axis in enumerate("xyz")},
        "customdata": compact(steps, exact=True), "line": {"color": colour, "width": 5, "dash": dash},
        "hovertemplate": f"step %{{customdata:,}}<br>%{{x:.3f}}, %{{y:.3f}}, %{{z:.3f}}<extra>expert {expert}</extra>",
    }  # fmt: skip
    if not finite.any():
        return [line]
    ends = np.flatnonzero(finite)[[0, -1]]
    marks: Trace = {
        "type": "scatter3d", "mode": "markers", "uid": f"{uid}/ends", "name": f"expert {expert}, start and now",
        "legendgroup": f"{expert}", "showlegend": False,
        **{axis: compact(path[ends, index], exact=True) for index, axis in enumerate("xyz")},
        "customdata": compact(steps[ends], exact=True),
        "marker": {"color": colour, "size": 5, "symbol": ["circle-open", "circle"]},
        "hovertemplate": f"step %{{customdata:,}}<br>%{{x:.3f}}, %{{y:.3f}}, %{{z:.3f}}<extra>expert {expert}</extra>",
    }  # fmt: skip
    return [line, marks]


def _axis_3d(name: str, view: View) -> dict[str, object]:
    colours = theme.palette(view)
    return {
        "title": {"text": name, "font": {"size": 11, "color": colours.muted}}, "gridcolor": colours.grid,
        "zerolinecolor": colours.muted, "backgroundcolor": colours.paper, "color": colours.muted,
        "tickfont": {"size": 10}, "nticks": 5,
    }  # fmt: skip
