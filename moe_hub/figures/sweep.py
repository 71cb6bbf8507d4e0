"""The two figures of a sweep: its trials as lines over parallel axes, and which keys told good trials from all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from moe_hub.figures import theme
from moe_hub.figures.view import View
from moe_hub.runs.sweeps import SweepSummary, Trial

HEIGHT_PX = 380
FEW_VALUES = 8  # an axis with at most as many different numbers shows each as a tick
MOST_LINES = 200  # more trials than this are drawn by the best ones alone, and the figure says so


@dataclass(frozen=True)
class _Axis:
    """One of the parallel axes: its name, the height (0 to 1) of each trial, and its ticks as (height, text)."""

    label: str
    heights: list[float]
    ticks: list[tuple[float, str]]


def parallel_coordinates(summary: SweepSummary, view: View) -> dict[str, Any]:
    """A line for each complete trial over the searched keys and the value; the better, the stronger its colour.

    Question: which values do the good trials have in common? Axes that span a factor of 100 or more are logarithmic
    and say so.
    """
    trials = ranked(summary)
    done = [trial for trial in trials if trial.state == "complete"][:MOST_LINES]
    layout = theme.base_layout(view) | {"showlegend": False, "hovermode": "closest"}
    left_out = len(trials) - len(done)
    note = f"{len(done)} complete trials" + (f"; {left_out} others are not drawn" if left_out else "")
    if not done:
        return _figure([], layout, "Trials", "no trial is complete yet", view)
    keys = list(summary.trials[0].params)
    axes = [_axis(key, [trial.params.get(key) for trial in done]) for key in keys]
    axes.append(_axis(summary.metric, [trial.value for trial in done]))
    traces = [_line(summary, trial, rank, len(done), axes, view) for rank, trial in enumerate(done)]
    layout["xaxis"] = {
        **theme.axis_style(view), "range": [-0.35, len(axes) - 0.65], "tickvals": list(range(len(axes))),
        "ticktext": [axis.label for axis in axes], "side": "top", "showgrid": True, "showline": False, "ticks": "",
        "fixedrange": True, "gridcolor": theme.palette(view).muted,
    }  # fmt: skip
    layout["yaxis"] = {"visible": False, "range": [-0.06, 1.06], "fixedrange": True}
    layout["annotations"] = [
        _tick(place, height, text, view) for place, axis in enumerate(axes) for height, text in axis.ticks
    ]
    layout["margin"] = {**layout["margin"], "l": 24, "t": 96}
    return _figure(traces[::-1], layout, "Trials", f"{note}; the best is drawn last", view)


def importance(summary: SweepSummary, view: View) -> dict[str, Any]:
    """Each key's share (they sum to 1) by PED-ANOVA; null value: 1 / number of keys, drawn as a dotted line.

    Question: which keys mattered? With few trials the shares are noisy.
    """
    colours = theme.palette(view)
    shares = sorted(summary.importance.items(), key=lambda item: item[1])
    complete = sum(trial.state == "complete" for trial in summary.trials)
    layout = theme.base_layout(view)
    if not shares:
        return _figure([], layout, "What mattered", f"{complete} complete trials are too few to tell", view)
    trace = {
        "type": "bar", "uid": "importance", "orientation": "h",
        "x": [share for _, share in shares], "y": [theme.plain_text(key) for key, _ in shares],
        "text": [f"{share:.0%}" for _, share in shares], "textposition": "auto", "textangle": 0,
        "marker": {"color": colours.lines[0]}, "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
    }  # fmt: skip
    layout["xaxis"] = {**theme.axis_style(view), "range": [0, 1]}
    layout["xaxis"]["title"] = {**layout["xaxis"]["title"], "text": "share of what tells good trials from all"}
    layout["yaxis"] = {**theme.axis_style(view), "showgrid": False}
    layout["margin"] = {**layout["margin"], "l": 24}
    layout["shapes"] = [{
        "type": "line", "x0": 1 / len(shares), "x1": 1 / len(shares), "y0": 0, "y1": 1, "yref": "paper",
        "line": {"color": colours.muted, "width": 1, "dash": "dot"},
    }]  # fmt: skip
    return _figure(
        [trace], layout, "What mattered", f"PED-ANOVA over {complete} complete trials; dotted: all equal", view
    )


FIGURES = {"trials": parallel_coordinates, "importance": importance}


def ranked(summary: SweepSummary) -> list[Trial]:
    """The trials, the best first; then pruned, failed and running ones."""
    sign = 1.0 if summary.direction == "min" else -1.0
    order = ("complete", "pruned", "failed", "running")

    def place(trial: Trial) -> tuple[int, float]:
        group = order.index(trial.state) if trial.state in order else len(order)
        return group, sign * trial.value if trial.value is not None else math.inf

    return sorted(summary.trials, key=place)


def _line(summary: SweepSummary, trial: Trial, rank: int, count: int, axes: list[_Axis], view: View) -> dict[str, Any]:
    colours = theme.palette(view)
    colour = theme.mix(colours.lines[0], colours.grid, min(1.0, 1.1 * rank / max(1, count - 1)))
    told = [f"trial {trial.number}: {summary.metric} {trial.value:.5g}"]
    told += [f"{key} = {value}" for key, value in trial.params.items()]
    return {
        "type": "scatter", "mode": "lines+markers", "uid": f"trial-{trial.number}", "name": f"trial {trial.number}",
        "x": list(range(len(axes))), "y": [axis.heights[rank] for axis in axes],
        "line": {"color": colour, "width": 3 if rank == 0 else 1.5},
        "marker": {"size": 6 if rank == 0 else 4},
        "hovertemplate": "<br>".join(theme.plain_text(line) for line in told) + "<extra></extra>",
    }  # fmt: skip


def _tick(place: int, height: float, text: str, view: View) -> dict[str, Any]:
    colours = theme.palette(view)
    return {
        "x": place, "y": height, "text": text, "showarrow": False, "xanchor": "left", "xshift": 5,
        "font": {"size": 10, "color": colours.muted}, "bgcolor": theme.faint(colours.paper, 0.7),
    }  # fmt: skip


def _axis(key: str, values: list[Any]) -> _Axis:
    """Numbers, logarithms of numbers that span far, or names; one value alone stands in the middle."""
    label = theme.plain_text(key.removeprefix("model.").removeprefix("train."))
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        names = sorted({str(value) for value in values})
        places = {name: _share(number, 0, len(names) - 1) for number, name in enumerate(names)}
        return _Axis(label, [places[str(value)] for value in values],
                     [(height, theme.plain_text(name)) for name, height in places.items()])  # fmt: skip
    numbers = [float(value) for value in values]
    low, high = min(numbers), max(numbers)
    if low > 0 and high / low >= 100:
        ends = math.log10(low), math.log10(high)
        marks = [10.0**power for power in range(math.ceil(ends[0]), math.floor(ends[1]) + 1)]
        return _Axis(f"{label} (log)", [_share(math.log10(number), *ends) for number in numbers],
                     [(_share(math.log10(mark), *ends), f"{mark:g}") for mark in marks])  # fmt: skip
    different = sorted(set(numbers))
    marks = (
        different
        if len(different) <= FEW_VALUES and float(sum(different)).is_integer()
        else [low, (low + high) / 2, high]
    )
    return _Axis(label, [_share(number, low, high) for number in numbers],
                 [(_share(mark, low, high), f"{mark:.4g}") for mark in dict.fromkeys(marks)])  # fmt: skip


def _share(value: float, low: float, high: float) -> float:
    return 0.5 if low == high else (value - low) / (high - low)


def _figure(traces: list[dict[str, Any]], layout: dict[str, Any], title: str, note: str, view: View) -> dict[str, Any]:
    colours = theme.palette(view)
    layout["title"] = {
        "text": f"<b>{title}</b><br><span style='font-size:11px;color:{colours.muted}'>{theme.plain_text(note)}</span>",
        "x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 12}, "y": 0.97, "yanchor": "top",
        "font": {"size": 14, "color": colours.text},
    }  # fmt: skip
    if not traces:
        layout["xaxis"] = layout["yaxis"] = {"visible": False}
    layout["meta"] = {"notes": [note], "height_px": HEIGHT_PX}
    return {"data": traces, "layout": layout}
