"""Ghost experts: when they wake, why, and what they then do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from moe_hub.figures import theme
from moe_hub.figures.drawing import Drawing, Trace
from moe_hub.figures.ghost_replay import read_rules
from moe_hub.figures.lines import Curve, add_curves, metric_curve, panel_axis, present, reference
from moe_hub.figures.parts import chosen_layer, first_with_any, known_panels, layer_curves, say_run
from moe_hub.figures.spec import figure
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory

MOST_GHOST_CURVES = 24
WOKEN = "event/ghost_woken"


@figure("Ghost", "Ghost Expert Activation", ("ghost/activation", "ghost/contribution"))
def ghost_expert_activation(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Which ghosts are awake, since when, and do they carry weight?

    Above: how far each ghost is switched on, 0 asleep to 1 fully active; a slope is the ramp after waking. Below: the
    ghost's share of its layer's output. A ghost that is fully on and contributes nothing was woken in vain. Triangles:
    the step at which a ghost was woken.

    Null value: 0, all asleep, which is exactly the model without ghosts.
    """
    titles = {"ghost/activation": "activation, 0 to 1", "ghost/contribution": "share of the layer's output"}
    drawing = Drawing()
    history = first_with_any(histories, titles, drawing)
    if history is None:
        return drawing
    known = known_panels(drawing, [history], titles)
    curves = [curve for panel, name in enumerate(known) for curve in _ghost_curves(history, name, view, drawing, panel)]
    add_curves(drawing, curves, view)
    if known[0] == "ghost/activation":
        drawing.traces += _woken_marks(history, view, "ghost/activation", None)
    return drawing


def _ghost_curves(history: RunHistory, metric: str, view: View, drawing: Drawing, panel: int) -> list[Curve]:
    """A curve per layer and ghost; of the chosen layer only where these are many."""
    values = history.arrays(metric)[1]
    if values.ndim != 3 or not len(values):
        return []
    layers = list(range(values.shape[1]))
    if values.shape[1] * values.shape[2] > MOST_GHOST_CURVES:
        layers = [chosen_layer(values.shape[1], view, drawing)]
    found: list[Curve | None] = []
    for layer in layers:
        for ghost in range(values.shape[2]):
            colour, _ = theme.line_style(layer if len(layers) > 1 else ghost, view)
            dash = theme.DASHES[ghost % len(theme.DASHES)]
            name = f"L{layer} ghost {ghost}"
            found.append(metric_curve(history, metric, view, name, colour, (layer, ghost), dash=dash, panel=panel,
                                      legend=panel == 0, group=name))  # fmt: skip
    return present(found)


def _woken_marks(history: RunHistory, view: View, on: str, layer: int | None) -> list[Trace]:
    """Triangles on the curves of a metric where ghosts were woken; of one layer, or of all."""
    woken = history.arrays(WOKEN)[1]
    x, curve_x, heights = history.x_values(WOKEN, view.x), history.x_values(on, view.x), history.arrays(on)[1]
    if woken.ndim != 3 or not len(heights):
        return []
    hits = [hit for hit in np.argwhere(woken > 0).tolist() if layer is None or hit[1] == layer]
    if view.x_range is not None:
        hits = [hit for hit in hits if view.x_range[0] <= x[hit[0]] <= view.x_range[1]]
    if not hits:
        return []
    rows = np.clip(np.searchsorted(curve_x, [x[row] for row, _, _ in hits], "right") - 1, 0, len(heights) - 1)
    y = [float(heights[row, at] if heights.ndim == 2 else heights[row, at, ghost])
         for row, (_, at, ghost) in zip(rows.tolist(), hits, strict=True)]  # fmt: skip
    return [{
        "type": "scatter", "mode": "markers", "uid": f"{history.run_id}/{WOKEN}", "name": "ghost woken",
        "x": [float(x[row]) for row, _, _ in hits], "y": y,
        "text": [f"ghost {ghost} of layer {at} woken" for _, at, ghost in hits],
        "hovertemplate": "%{text}<extra></extra>", **panel_axis(0),
        "marker": {"symbol": "triangle-up", "size": 11, "color": theme.palette(view).text},
    }]  # fmt: skip


@figure("Ghost", "Saturation Monitoring", ("ghost/saturation",))
def saturation_monitoring(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Are the primary experts saturated, and did that wake a ghost?

    Above: saturation of each layer, diversity of its experts x what is still unexplained: the share of the loss, or
    with the saturation measure fvu_grad of the layer's gradient (legacy: a variance). A ghost wakes when it stands
    above the dotted threshold on a plateau of the loss, after the earliest step; triangles mark it. Below: the factors,
    and the relative gain of the loss from one window to the next.

    Null value: about 1 at the start (independent experts, nothing explained), with fvu_grad 1 - experts / model width,
    which is why the plateau counts too.
    """
    drawing = Drawing()
    factors = ("ghost/diversity", "ghost/unexplained", "ghost/gradient_fvu", "ghost/residual_variance",
               "ghost/loss_improvement")  # fmt: skip
    drawing.panels = ["saturation"]
    curves = layer_curves(histories, "ghost/saturation", view, drawing)
    if len(histories) == 1:
        history = histories[0]
        known = [name for name in factors if name in history.names()]
        drawing.panels += ["factors"][: len(known)]
        curves += _factor_curves(history, known, view)
        threshold = metric_curve(history, "ghost/threshold", view, "threshold", theme.palette(view).text, dash="dot")
        curves += present([threshold])
    add_curves(drawing, curves, view)
    if len(histories) == 1:
        drawing.traces += _woken_marks(histories[0], view, "ghost/saturation", None)
        if "ghost/threshold" not in histories[0].names():
            rules = read_rules(histories[0])
            reference(drawing, f"{histories[0].run_id}/threshold", "threshold of the config", rules.threshold, view)
    return drawing


def _factor_curves(history: RunHistory, names: Sequence[str], view: View) -> list[Curve]:
    """What is logged by layer as its mean over layers; the others are scalars."""
    found: list[Curve | None] = []
    for place, name in enumerate(names):
        colour, dash = theme.line_style(place + 3, view)
        word = name.split("/")[1].replace("_", " ")
        values = history.arrays(name)[1]
        if values.ndim == 2:
            y = values.astype(np.float64).mean(1)
            found.append(Curve(f"{history.run_id}/{name}/mean", f"{word}, mean of layers",
                               history.x_values(name, view.x), y, colour, dash=dash, panel=1))  # fmt: skip
        else:
            found.append(_from_first(metric_curve(history, name, view, word, colour, dash=dash, panel=1)))
    return present(found)


def _from_first(curve: Curve | None) -> Curve | None:
    """Without the NaN rows before the first value: the improvement is not known before two windows have ended."""
    if curve is None or not np.isfinite(curve.y).any():
        return curve
    first = int(np.isfinite(curve.y).argmax())
    return replace(curve, x=curve.x[first:], y=curve.y[first:], smoother=None)


@figure("Ghost", "Ghost vs Primary Learning", ("optim/lr/ghost*", "optim/grad_norm/ghost*", "ghost/contribution"))
def ghost_vs_primary_learning(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Do the ghosts learn while the primary experts slow down?

    Ghosts dashed, primary experts solid. From above: learning rates as the optimizer used them; gradient norms before
    clipping; share of the output, summed over ghosts and over primary experts and averaged over layers. With inverse
    coupling the ghosts' rate rises as the primary rate falls. A gradient without a contribution is a ghost that is
    still finding its place.

    Null values: rate, gradient and contribution of ghosts 0 while all are asleep.
    """
    drawing = Drawing()
    known = next((one for one in histories if _ghost_groups(one) or "ghost/contribution" in one.names()), None)
    history = say_run(known, histories, drawing)
    if history is None:
        return drawing
    curves: list[Curve] = []
    for prefix, title in (("optim/lr/", "learning rate"), ("optim/grad_norm/", "gradient norm")):
        found = _group_curves(history, prefix, view, len(drawing.panels))
        if found:
            drawing.panels.append(title)
            curves += found
    shares = _share_curves(history, view, len(drawing.panels))
    if shares:
        drawing.panels.append("share of the output")
        curves += shares
    add_curves(drawing, curves, view)
    return drawing


def _ghost_groups(history: RunHistory) -> list[str]:
    return [name for name in history.matching("optim/") if name.rsplit("/", 1)[1].startswith("ghost")]


def _group_curves(history: RunHistory, prefix: str, view: View, panel: int) -> list[Curve]:
    names = history.matching(prefix)
    if not any(name.removeprefix(prefix).startswith("ghost") for name in names):
        return []
    found = []
    for place, name in enumerate(sorted(names, key=lambda name: (not name.startswith(f"{prefix}ghost"), name))):
        word = name.removeprefix(prefix)
        ghost = word.startswith("ghost")
        colour = theme.line_style(place, view)[0]
        found.append(metric_curve(history, name, view, word, colour, dash="dash" if ghost else "solid", panel=panel,
                                  width=2.0 if ghost else 1.4, legend=panel == 0, group=word))  # fmt: skip
    return present(found)


def _share_curves(history: RunHistory, view: View, panel: int) -> list[Curve]:
    contribution = history.arrays("ghost/contribution")[1]
    if contribution.ndim != 3 or not len(contribution):
        return []
    ghosts = contribution.sum(2, dtype=np.float64).mean(1)
    x = history.x_values("ghost/contribution", view.x)
    names = (("all ghosts", ghosts, "dash", 0), ("all primary experts", 1 - ghosts, "solid", 2))
    return [
        Curve(f"{history.run_id}/share/{name}", name, x, y, theme.line_style(place, view)[0], dash=dash, panel=panel)
        for name, y, dash, place in names
    ]  # fmt: skip
