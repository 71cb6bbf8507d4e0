"""What another activation threshold would have woken, replayed from the log."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moe_hub.figures import theme
from moe_hub.figures.axes import x_axis
from moe_hub.figures.drawing import Drawing
from moe_hub.figures.ghost_replay import Wake, read_rules, replay
from moe_hub.figures.lines import panel_axis
from moe_hub.figures.parts import first_with
from moe_hub.figures.spec import figure
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory


@figure("Ghost", "Activation Threshold Tuning", ("ghost/saturation",))
def activation_threshold_tuning(histories: Sequence[RunHistory], view: View) -> Drawing:
    """What would another activation threshold have woken, and when?

    Replayed from the logged saturation and loss improvement with the run's own rules (window, patience, plateau,
    earliest step, ramp). Above: how many ghosts each threshold would have woken by now. Below: the step at which the
    first one would have woken. The vertical lines are the threshold in use and the one being tried.

    A woken ghost changes what follows, which a replay cannot know: after the first waking it shows what the log would
    have triggered, not what the run would have become. Null value: no ghost at thresholds above every saturation.
    """
    drawing = Drawing(panels=["ghosts woken", "step of the first waking"])
    history = first_with(histories, "ghost/saturation", drawing)
    if history is None:
        return drawing
    rules = read_rules(history)
    saturation = history.arrays("ghost/saturation")[1]
    finite = saturation[np.isfinite(saturation)]
    top = max(float(finite.max()) if finite.size else 0.0, rules.threshold, view.threshold or 0.0, 1e-6) * 1.1
    grid = np.linspace(0, top, 121)
    woken = [replay(history, rules, float(value)) for value in grid]
    first = np.array([events[0].step if events else np.nan for events in woken], dtype=np.float64)
    colours = theme.palette(view)
    for panel, (name, values) in enumerate((("ghosts woken", [len(e) for e in woken]), ("first waking", first))):
        drawing.traces.append({
            "type": "scatter", "mode": "lines", "uid": f"{history.run_id}/replay/{panel}", "name": name, "x": grid,
            "y": np.asarray(values, dtype=np.float64), "line": {"color": colours.lines[panel], "shape": "hv"},
            "hovertemplate": f"%{{y:,}}<extra>{name}</extra>", **panel_axis(panel),
        })  # fmt: skip
    used = _present_threshold(history, rules.threshold)
    _vertical(drawing, history, "in use", used, replay(history, rules, used), view)
    if view.threshold is not None:
        _vertical(drawing, history, "tried", view.threshold, replay(history, rules, view.threshold), view)
    drawing.x_axis = {**x_axis(View(width_px=view.width_px), []), "title": {"text": "activation threshold"},
                      "tickformat": ""}  # fmt: skip
    drawing.log_y = False
    return drawing


def _present_threshold(history: RunHistory, configured: float) -> float:
    logged = history.series("ghost/threshold")[1]
    logged = logged[np.isfinite(logged)]
    return float(logged[-1]) if logged.size else configured


def _vertical(
    drawing: Drawing, history: RunHistory, word: str, threshold: float, events: Sequence[Wake], view: View
) -> None:
    steps = [event.step for event in events]
    colours = theme.palette(view)
    colour = colours.alarm if word == "tried" else colours.muted
    for panel, top in enumerate((max(len(events), 1), max(steps, default=1))):
        drawing.traces.append({
            "type": "scatter", "mode": "lines", "uid": f"{history.run_id}/{word}/{panel}", "name": f"threshold {word}",
            "x": [threshold, threshold], "y": [0, float(top)], "line": {"color": colour, "dash": "dot"},
            "showlegend": panel == 0, "hovertemplate": f"%{{x:.4g}}<extra>{word}</extra>", **panel_axis(panel),
        })  # fmt: skip
    said = ", ".join(f"layer {event.layer} at step {event.step:,}" for event in events[:6])
    more = f" and {len(events) - 6} more" if len(events) > 6 else ""
    drawing.note(f"threshold {word} {threshold:.4g}: {said + more if events else 'wakes none'}")
