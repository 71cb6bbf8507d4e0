"""What single architectures log of themselves: the losses of a sparse router, the controller of a diversity loss."""

from __future__ import annotations

from collections.abc import Sequence

from moe_hub.figures import theme
from moe_hub.figures.drawing import Drawing
from moe_hub.figures.lines import Curve, add_curves, metric_curve, present, reference, run_label
from moe_hub.figures.parts import known_panels, layer_curves
from moe_hub.figures.spec import figure
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory


@figure("Architecture", "Router Losses", ("loss/load_balance", "loss/router_z"))
def router_losses(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Is the sparse router balanced, and are its logits in bounds?

    Above: load-balance loss before its weight; 1 where all experts get the same share of tokens, up to the number of
    experts where one gets all. Below: mean squared log-sum-exp of the router's logits, which grows when they run away.

    Null values: load balance 1; router z ln(experts) squared (logits of 0).
    """
    titles = {"loss/load_balance": "load balance, 1 = even", "loss/router_z": "router z"}
    drawing = Drawing()
    known = known_panels(drawing, histories, titles)
    curves: list[Curve | None] = []
    for panel, name in enumerate(known):
        for index, history in enumerate(histories):
            single = len(histories) == 1
            colour, dash = theme.line_style(panel if single else index, view)
            label = titles[name].split(",")[0] if single else run_label(history)
            curves.append(
                metric_curve(history, name, view, label, colour, dash=dash, panel=panel, smoothed=True,
                             group="" if single else history.run_id, legend=single or panel == 0)
            )  # fmt: skip
    add_curves(drawing, present(curves), view)
    if "loss/load_balance" in known:
        reference(drawing, "even", "even", 1.0, view, known.index("loss/load_balance"))
    return drawing


@figure("Architecture", "Diversity Controller", ("orthogonal/weight", "orthogonal/overlap"))
def diversity_controller(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Does the controller hold the experts apart, and at what weight of the diversity loss?

    Above: the running mean of the overlap of the experts in each layer, as the loss of the run measures it, which the
    controller holds at its target. Below: the weight that it gives to the diversity loss; it rises while the overlap is
    above the target. A weight that stays at its bound means that the target cannot be reached.

    Null value: overlap 1 / model width (independent experts; the dotted line), with the loss gram_identity 0.
    """
    titles = {"orthogonal/overlap": "overlap, 0 to 1", "orthogonal/weight": "weight of the diversity loss"}
    drawing = Drawing()
    known = known_panels(drawing, histories, titles)
    curves = [
        curve for panel, name in enumerate(known) for curve in layer_curves(histories, name, view, drawing, panel)
    ]
    add_curves(drawing, curves, view)
    model = histories[0].config.get("model", {}) if histories else {}
    width, loss = model.get("d_model"), model.get("orthogonal", {}).get("loss", "overlap")
    if "orthogonal/overlap" in known and loss == "overlap" and isinstance(width, int) and width > 0:
        reference(drawing, "independent", "independent experts", 1 / width, view)
    return drawing
