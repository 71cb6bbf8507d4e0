"""How it is trained: learning rates as logged, speed and load of the machine."""

from __future__ import annotations

from collections.abc import Sequence

from moe_hub.figures import theme
from moe_hub.figures.drawing import Drawing
from moe_hub.figures.lines import Curve, add_curves, metric_curve, present, run_label
from moe_hub.figures.spec import figure
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory


@figure("Core", "Learning Rate Schedule", ("optim/lr/*",))
def learning_rate_schedule(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Which learning rate did each group of parameters really have?

    The values that the optimizer used, as logged, one line per parameter group; nothing is recomputed from the config.
    A log y axis shows groups of different size side by side. No null value: these are settings.
    """
    drawing = Drawing(panels=["learning rate"])
    curves: list[Curve | None] = []
    names = sorted({name for history in histories for name in history.matching("optim/lr/")})
    for index, history in enumerate(histories):
        label = "" if len(histories) == 1 else f"{run_label(history)} "
        dash = theme.DASHES[index % len(theme.DASHES)]
        curves += [
            metric_curve(history, name, view, f"{label}{name.removeprefix('optim/lr/')}",
                         theme.line_style(place, view)[0], dash=dash)
            for place, name in enumerate(names)
        ]  # fmt: skip
    add_curves(drawing, present(curves), view)
    return drawing
