"""The x axis: what it counts, how it is labelled, and ticks for durations."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from moe_hub.figures.view import View

TITLES = {
    "step": "step",
    "tokens": "training tokens",
    "active_time": "time spent training",
    "time": "time since the first row",
}
_NICE_S = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800,
)  # fmt: skip
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def x_axis(view: View, ends: Iterable[float]) -> dict[str, Any]:
    """Title, type and ticks of the shared x axis; `ends` are the largest values of the curves. No range."""
    axis: dict[str, Any] = {"title": {"text": TITLES[view.x]}, "type": "log" if view.log_x else "linear"}
    if view.x in ("active_time", "time"):
        last = max((end for end in ends if math.isfinite(end)), default=0.0)
        low, high = view.x_range or (0.0, last)
        values = duration_ticks(max(low, 0.0), min(high, last) if last else high, view)
        if values:
            axis |= {"tickmode": "array", "tickvals": values, "ticktext": [duration(value) for value in values]}
    elif not view.log_x:
        axis |= {"exponentformat": "SI", "minexponent": 3}
    return axis


def duration_ticks(low: float, high: float, view: View) -> list[float]:
    """Round durations (s) between two of them, as many as the width has room for."""
    room = max(3, view.width_px // 110)
    if view.log_x:
        marks = [float(nice) for nice in _NICE_S if low <= nice <= high]
        return marks[:: max(1, math.ceil(len(marks) / room))]
    span = high - low
    if span <= 0:
        return []
    if span < 3:  # below the table Plotly's own ticks in seconds are fine
        return []
    step = next((nice for nice in _NICE_S if span / nice <= room), None)
    if step is None:
        step = math.ceil(span / room / 604800) * 604800
    first = math.ceil(low / step)
    return [float(step * index) for index in range(first, math.floor(high / step) + 1)]


def duration(seconds: float) -> str:
    """90 -> 1 min 30 s; the two largest units."""
    left = round(seconds)
    parts = []
    for size, unit in _UNITS:
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) or "0 s"
