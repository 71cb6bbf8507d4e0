"""Which experts work, on what, and how much alike they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from moe_hub.figures import theme
from moe_hub.figures.drawing import Drawing
from moe_hub.figures.heatmaps import color_bar, heatmap_over_steps, largest, row_axis, square, squares
from moe_hub.figures.lines import Curve, add_curves, reference
from moe_hub.figures.parts import (
    chosen_layer,
    expert_curves,
    first_with,
    first_with_any,
    known_panels,
    layer_curves,
    primary_experts,
    short_name,
)
from moe_hub.figures.spec import figure
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory

DEAD_SHARE = 0.01  # of tokens; see expert/utilization in the table of metrics


@figure("Core", "Expert Activations", ("expert/load",))
def expert_activations(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Which experts carry the output of their layer, and when did that change?

    A row per layer and expert, a column per logged step: the expert's share of its layer's output, by mean length of
    its contribution. Each layer's shares sum to 1. A row that fades out is an expert that is dying; one that takes
    over starves the others. Grey: not logged or not finite.

    Null value: 1 / experts, an even share, which is where an untrained gate stands; 0 for a ghost (G) that sleeps.
    """
    drawing = Drawing()
    history = first_with(histories, "expert/load", drawing)
    if history is None:
        return drawing
    load = history.arrays("expert/load")[1]
    layers, experts = load.shape[1:]
    primary = primary_experts(history, experts)
    even = 1 / primary
    trace = heatmap_over_steps(drawing, history, "expert/load", view, load.reshape(len(load), -1))
    rows = [f"L{layer} {short_name(expert, primary)}" for layer in range(layers) for expert in range(experts)]
    trace |= {
        "colorscale": theme.color_scale(theme.palette(view).sequential), "zmin": 0, "zmax": largest(trace["z"]),
        "colorbar": color_bar(f"share<br>(even: {even:.3g})", view),
        "hovertemplate": "%{y}<br>%{x}<br>share %{z:.4f}" + f"<extra>even share {even:.4f}</extra>",
    }  # fmt: skip
    row_axis(drawing, trace, rows, experts, view)
    return drawing


@figure("Geometric", "Expert Specialization", ("expert/specialization", "expert/effective_rank"))
def expert_specialization(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Do the experts do different things, for different tokens?

    Above: normalised mutual information of token and expert in each layer; 0 where the gate treats all tokens alike,
    1 where each token goes to one expert and all experts are used. Below: the effective number of different
    directions among the experts' outputs. High rank with no specialization means different experts that are used
    alike; low rank means experts that have become copies.

    Null values: specialization 0; effective rank = the number of experts (independent, untrained experts).
    """
    titles = {
        "expert/specialization": "specialization, 0 to 1",
        "expert/effective_rank": "effective rank, 1 to experts",
    }
    drawing = Drawing()
    known = known_panels(drawing, histories, titles)
    add_curves(drawing, [
        curve for panel, name in enumerate(known) for curve in layer_curves(histories, name, view, drawing, panel)
    ], view)  # fmt: skip
    return drawing


@figure("Architecture", "Expert Load", ("expert/load", "expert/utilization", "router/entropy"))
def expert_load(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Is every expert used, or do a few do all the work?

    Utilisation ratio: the expert's share of the chosen layer's output x number of experts, so 1 is an even share.
    Share of tokens: to how many tokens the expert gives at least half of an even share; below 1 % it counts as dead,
    and dead experts of all layers are named under the title. Router entropy: how evenly the gate spreads a token over
    the experts, as a share of its maximum, for each layer.

    Null values: ratio 1, entropy 1 (an even gate).
    """
    titles = {
        "expert/load": "utilisation ratio, 1 = even", "expert/utilization": "share of tokens, dead below 0.01",
        "router/entropy": "router entropy, share of ln(experts)",
    }  # fmt: skip
    drawing = Drawing()
    history = first_with_any(histories, titles, drawing)
    if history is None:
        return drawing
    known = known_panels(drawing, [history], titles)
    curves: list[Curve] = []
    for panel, name in enumerate(known):
        shape = history.arrays(name)[1].shape
        if name == "router/entropy":
            curves += [
                replace(curve, legend=True, group="") for curve in layer_curves([history], name, view, drawing, panel)
            ]
            continue
        layer = chosen_layer(shape[1], view, drawing)
        scale = primary_experts(history, shape[2]) if name == "expert/load" else 1
        curves += [
            replace(curve, y=curve.y * scale, smoother=None) if scale != 1 else curve
            for curve in expert_curves(history, name, layer, view, panel=panel)
        ]  # fmt: skip
    add_curves(drawing, curves, view)
    for name, value, word in (("expert/load", 1.0, "even share"), ("expert/utilization", DEAD_SHARE, "dead below")):
        if name in known:
            reference(drawing, f"reference/{name}", word, value, view, known.index(name))
    drawing.note(_dead_experts(history))
    return drawing


def _dead_experts(history: RunHistory) -> str:
    """Names the experts that almost no token used in the newest row that is finite; says so where there are none."""
    values = history.arrays("expert/utilization")[1]
    if values.ndim != 3 or not len(values):
        return ""
    finite = np.flatnonzero(np.isfinite(values.reshape(len(values), -1)).all(1))
    if not finite.size:
        return ""
    primary = primary_experts(history, values.shape[2])  # a ghost that sleeps is not dead
    newest = values[finite[-1]][:, :primary]
    dead = [f"L{layer} E{expert}" for layer, expert in np.argwhere(newest < DEAD_SHARE).tolist()]
    if not dead:
        return "no dead expert now"
    shown = ", ".join(dead[:8]) + (f" and {len(dead) - 8} more" if len(dead) > 8 else "")
    return f"{len(dead)} dead now: {shown}"


@figure("Architecture", "Expert Connection Heatmap", ("coupling/adjacency",))
def expert_connection_heatmap(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Which experts listen to which?

    The weight with which each expert (row) reads the message of another (column) in the chosen layer, as measured at
    the newest logged step, or at the right end of the visible range; ghosts stand after the experts. A dark column is
    an expert that all others listen to; a row with nothing off the diagonal is an expert that works alone.

    Null value: the same weight for all members of a hyperedge, as at the start.
    """
    return square(histories, view, "coupling/adjacency", "weight")


@figure("Geometric", "Expert Similarity", ("expert/similarity", "expert/cka"))
def expert_similarity(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Which experts have become alike?

    Left, mean cosine between the outputs of each two experts of the chosen layer, at the newest logged step or at the
    right end of the visible range: 1 the same direction, 0 independent, -1 opposed. Right, linear CKA (centred kernel
    alignment): 1 where the outputs say the same of the tokens, even if one is the other turned and scaled. A pair with
    cosine 0 and CKA near 1 has the same content in another basis. The diagonal is 1 by definition.

    Null value: 0 off the diagonal (independent experts), for both.
    """
    return squares(histories, view, {"expert/similarity": "mean cosine", "expert/cka": "linear CKA"})
