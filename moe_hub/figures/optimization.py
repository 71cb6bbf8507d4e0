"""How it is trained: learning rates as logged, speed and load of the machine."""

from __future__ import annotations

from collections.abc import Sequence

from moe_hub.figures import theme
from moe_hub.figures.drawing import Drawing
from moe_hub.figures.lines import Curve, add_curves, metric_curve, present, reference, run_label
from moe_hub.figures.spec import figure
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory
from moe_hub.runs.metrics import find_metric

SYSTEM_WORDS = {"tokens/s": "speed", "s": "seconds a step", "%": "use", "MB": "memory"}


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


@figure("Core", "Gradient Norms", ("optim/grad_norm*",))
def gradient_norms(histories: Sequence[RunHistory], view: View) -> Drawing:
    """Which parameters does the loss still pull at, and is training stable?

    Norm of the gradient of each parameter group before clipping, and of all together. A group near 0 does not learn;
    a norm that grows, or jumps, announces a loss spike. Where the total stands above the clip limit of the config
    (dotted), steps are shortened. No null value: the size depends on the model; compare groups and times.
    """
    drawing = Drawing(panels=["gradient norm"])
    curves: list[Curve | None] = []
    names = sorted({name for history in histories for name in history.matching("optim/grad_norm")})
    for index, history in enumerate(histories):
        label = "" if len(histories) == 1 else f"{run_label(history)} "
        dash = theme.DASHES[index % len(theme.DASHES)]
        for place, name in enumerate(names):
            word = name.removeprefix("optim/grad_norm/").replace("optim/grad_norm_total", "all")
            colour = theme.line_style(place, view)[0]
            curves.append(metric_curve(history, name, view, f"{label}{word}", colour, dash=dash, smoothed=True))
    add_curves(drawing, present(curves), view)
    if len(histories) == 1:
        limit = histories[0].config.get("train", {}).get("grad_clip")
        if isinstance(limit, int | float) and limit > 0:
            reference(drawing, "grad-clip", "clip limit", float(limit), view)
    return drawing


@figure("Core", "Throughput and System", ("time/tokens_per_s", "time/step_s", "system/*"))
def throughput_and_system(histories: Sequence[RunHistory], view: View) -> Drawing:
    """How fast does it train, and what does the machine give?

    Training tokens per second above, then what was logged of the machine, a panel for each unit: processor use (100 %
    is one full core), memory of the trainer, and the GPU where there is one. Tokens per second that fall while memory
    grows point to a leak; a processor far below the cores in use points to waiting for data.

    No null value: these depend on the machine, so compare runs of one machine only.
    """
    drawing = Drawing()
    panels = _system_panels(histories)
    drawing.panels = [_panel_title(unit, names) for unit, names in panels.items()]
    single = len(histories) == 1
    curves: list[Curve | None] = []
    for panel, names in enumerate(panels.values()):
        for index, history in enumerate(histories):
            for place, name in enumerate(names):
                colour, dash = theme.line_style(place + panel if single else index, view)
                word = name.split("/", 1)[1].replace("_", " ")
                label = word if single else f"{run_label(history)} {word}"
                style = dash if single else theme.DASHES[place % len(theme.DASHES)]
                curves.append(metric_curve(history, name, view, label, colour, panel=panel, smoothed=True, dash=style))
    add_curves(drawing, present(curves), view)
    return drawing


def _panel_title(unit: str, names: list[str]) -> str:
    """What stands in a panel, with its unit: speed, processor and GPU in %, memory in MB."""
    if names == [unit]:
        return unit
    return f"{SYSTEM_WORDS.get(unit, names[0].split('/', 1)[1].replace('_', ' '))}, {unit}"


def _system_panels(histories: Sequence[RunHistory]) -> dict[str, list[str]]:
    """Metric names by unit, speed first; seconds per step only where nobody logged tokens per second."""
    names = sorted({name for history in histories for name in history.names()})
    speed = "time/tokens_per_s" if "time/tokens_per_s" in names else "time/step_s"
    panels: dict[str, list[str]] = {}
    for name in [speed, *(name for name in names if name.startswith("system/"))]:
        if name in names:
            metric = find_metric(name)
            panels.setdefault(metric.unit if metric and metric.unit else name, []).append(name)
    return panels
