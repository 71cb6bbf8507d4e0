"""Curves: from the rows of a metric to traces, with smoothing, gaps, log axes and rows left out all accounted for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_hub.figures import theme
from moe_hub.figures.axes import x_axis
from moe_hub.figures.buckets import RAW_ROWS, select, visible
from moe_hub.figures.drawing import Drawing, Trace, compact
from moe_hub.figures.smoothing import smooth
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory

FloatArray = npt.NDArray[np.float64]

MOST_POINTS = 60_000  # of one figure; 8 bytes each keep an answer below 1 MB
MOST_MARKS = 200  # crosses for values that are not finite, per curve
NOT_FINITE = "not finite"
MOST_NAMED, MOST_NAMED_NARROW = 24, 10  # above this many curves a legend is longer than the figure


@dataclass(frozen=True)
class Curve:
    """One line of a figure. `uid` must be the same at every update: zoom, legend choices and hiding hang on it.

    `hover` is the name under the pointer, where it says more than the legend. `smoothed` says whether the view's
    smoothing applies; `panel` counts from 0; `older` holds (x, y) of superseded attempts.
    """

    uid: str
    name: str
    x: FloatArray
    y: FloatArray
    colour: str
    dash: str = "solid"
    width: float = 1.6
    panel: int = 0
    smoothed: bool = False
    markers: bool = False
    group: str = ""
    hover: str = ""
    legend: bool = True
    older: tuple[tuple[FloatArray, FloatArray], ...] = ()
    smoother: Callable[[float], FloatArray] | None = field(default=None, repr=False)


def run_label(history: RunHistory) -> str:
    """What a person calls a run: its label, or its config's name with the end of its id."""
    if history.label:
        return history.label
    name = history.config.get("name")
    return f"{name} {history.run_id[-4:]}" if isinstance(name, str) and name else history.run_id


def metric_curve(
    history: RunHistory, metric: str, view: View, name: str, colour: str, part: tuple[int, ...] = (), **style: Any
) -> Curve | None:
    """The curve of a metric, or of one entry of an array metric; None where the run has no such values."""
    values = history.arrays(metric)[1]
    if values.shape[0] == 0 or values.ndim != 1 + len(part):
        return None
    entries: Any = values  # numpy's stubs know no star in an index
    y = np.ascontiguousarray(entries[:, *part], dtype=np.float64)
    uid = "/".join([history.run_id, metric, *(str(index) for index in part)])
    older = tuple(history.abandoned(metric, view.x)) if not part else ()
    return Curve(
        uid, name, history.x_values(metric, view.x), y, colour, older=older,
        smoother=lambda weight: history.remember(("smooth", metric, part, weight), lambda: smooth(y, weight)), **style,
    )  # fmt: skip


def present(curves: Sequence[Curve | None]) -> list[Curve]:
    """The curves that are there."""
    return [curve for curve in curves if curve is not None]


def add_curves(drawing: Drawing, curves: Sequence[Curve], view: View) -> None:
    """Adds the curves to the drawing and says how they are shown."""
    if not curves:
        return
    buckets = max(40, min(view.width_px, MOST_POINTS // (4 * len(curves))))
    log_y = view.log_y if drawing.log_y is None else drawing.log_y
    named = sum(curve.legend for curve in curves)
    legend = named <= (MOST_NAMED if view.width_px >= theme.NARROW_PX else MOST_NAMED_NARROW)
    shown = _Shown()
    for curve in curves:
        drawing.traces += _traces(curve if legend else replace(curve, legend=False), view, log_y, buckets, shown)
    _one_entry(drawing, shown.not_finite)
    drawing.run_axis = True
    drawing.x_axis = x_axis(view, [float(curve.x[-1]) for curve in curves if curve.x.size] + shown.ends)
    for text in shown.notes(view, buckets, len(curves)):
        drawing.note(text)
    if not legend:
        drawing.note(f"{len(curves)} curves: hover over one for its name")


def _one_entry(drawing: Drawing, count: int) -> None:
    """Names the first crosses in the legend for all of them: an entry for each curve would fill the figure."""
    marks = [trace for trace in drawing.traces if trace.get("legendgroup") == NOT_FINITE]
    for trace in marks[:1]:
        trace |= {"showlegend": True, "name": f"not finite ({count:,})"}


@dataclass
class _Shown:
    """What was left out while curves were drawn."""

    rows: int = 0
    bucketed: int = 0
    below: int = 0
    not_finite: int = 0
    left: int = 0
    smoothed: bool = False
    older: bool = False
    ends: list[float] = field(default_factory=list)

    def notes(self, view: View, buckets: int, curves: int) -> list[str]:
        each = "" if curves == 1 else " per curve"
        notes = []
        if self.bucketed:
            notes.append(
                f"{self.bucketed:,} rows{each}, shown as first, last, lowest and highest of {buckets:,} buckets"
            )
        if self.smoothed:
            notes.append(f"smoothed: debiased moving average of all rows, weight {view.smoothing:g}; faint: as logged")
        if self.below:
            notes.append(f"{self.below:,} of {self.rows:,} values are 0 or less and have no place on a log y axis")
        if self.left:
            notes.append(f"{self.left:,} of {self.rows:,} values have no place on a log x axis")
        if self.older:
            notes.append("dotted: an earlier attempt, superseded when the run was resumed")
        return notes


def _traces(curve: Curve, view: View, log_y: bool, buckets: int, shown: _Shown) -> list[Trace]:
    shown.rows += curve.y.size
    if view.log_x:
        shown.left += int((curve.x <= 0).sum())
    window = visible(curve.x, view.x_range)
    shown.not_finite += int((~np.isfinite(curve.y[window])).sum())
    rows = window.stop - window.start
    if rows > RAW_ROWS:
        shown.bucketed = max(shown.bucketed, rows)
    traces: list[Trace] = []
    for x, y in curve.older:
        shown.older = True
        part = visible(x, view.x_range)
        older = replace(curve, uid=f"{curve.uid}/older/{len(traces)}", dash="dot", width=1.3, legend=False)
        traces.append(_line(older, x[part], _drawable(y[part], log_y, None), view, buckets // 2 + 1, 0.6))
    x = curve.x[window]
    if curve.smoothed and view.smoothing > 0:
        shown.smoothed = True
        averaged = curve.smoother(view.smoothing) if curve.smoother else smooth(curve.y, view.smoothing)
        raw = replace(curve, uid=f"{curve.uid}/raw", legend=False, width=1.0)
        traces.append(_line(raw, x, _drawable(curve.y[window], log_y, shown), view, buckets, 0.3))
        traces.append(_line(curve, x, _drawable(averaged[window], log_y, None), view, buckets, 1.0, kind="smoothed"))
    else:
        traces.append(_line(curve, x, _drawable(curve.y[window], log_y, shown), view, buckets, 1.0))
    return traces + _marks(curve, x, curve.y[window], log_y, view)


def _drawable(y: FloatArray, log_y: bool, shown: _Shown | None) -> FloatArray:
    """The values with NaN where nothing can be drawn; counts those below zero on a log axis."""
    if not log_y:
        return y
    below = np.isfinite(y) & (y <= 0)
    if shown is not None:
        shown.below += int(below.sum())
    return np.where(below, np.nan, y)


def _line(
    curve: Curve, x: FloatArray, y: FloatArray, view: View, buckets: int, opacity: float, kind: str = ""
) -> Trace:
    index = select(x, y, buckets, log_x=view.log_x)
    exact = index.size == x.size
    y = y[index]
    name, hover = theme.plain_text(curve.name), theme.plain_text(curve.hover or curve.name)
    alone = curve.markers or y.size == 1
    trace: Trace = {
        "type": "scatter", "uid": curve.uid, "name": name, "mode": "lines+markers" if alone else "lines",
        "x": compact(x[index], exact=exact), "y": compact(np.where(np.isfinite(y), y, np.nan), exact=exact),
        "line": {"color": curve.colour, "width": curve.width, "dash": curve.dash}, "opacity": opacity,
        "showlegend": curve.legend, "connectgaps": False,
        "hovertemplate": f"%{{y:.5g}}<extra>{hover}{' (' + kind + ')' if kind else ''}</extra>",
        **panel_axis(curve.panel),
    }  # fmt: skip
    if alone:
        trace["marker"] = {"color": curve.colour, "size": 6}
    if curve.group:
        trace["legendgroup"] = curve.group
    return trace


def _marks(curve: Curve, x: FloatArray, y: FloatArray, log_y: bool, view: View) -> list[Trace]:
    """Crosses where a value is not finite, at the height of the last finite value before it."""
    hits = np.flatnonzero(~np.isfinite(y))
    if hits.size == 0:
        return []
    usable = np.isfinite(y) & ((y > 0) | (not log_y))
    before = np.maximum.accumulate(np.where(usable, np.arange(y.size), -1))
    first = int(usable.argmax()) if usable.any() else -1
    spread = hits if hits.size <= MOST_MARKS else hits[np.linspace(0, hits.size - 1, MOST_MARKS).astype(np.int64)]
    source = np.where(before[spread] >= 0, before[spread], first)
    height = np.where(source >= 0, y[source], 1.0)
    name = f"{theme.plain_text(curve.hover or curve.name)}: {hits.size:,} not finite"
    # One entry of the legend stands for the crosses of all curves; see `_one_entry`.
    return [{
        "type": "scatter", "mode": "markers", "uid": f"{curve.uid}/not-finite", "name": name,
        "x": compact(x[spread], exact=True), "y": height, "showlegend": False, "legendgroup": NOT_FINITE,
        "text": [_word(value) for value in y[spread].tolist()], "hovertemplate": f"%{{text}}<extra>{name}</extra>",
        "marker": {"symbol": "x", "size": 9, "color": theme.palette(view).alarm}, **panel_axis(curve.panel),
    }]  # fmt: skip


def _word(value: float) -> str:
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def panel_axis(panel: int) -> dict[str, str]:
    """The axes of a panel, as a trace names them."""
    return {"xaxis": "x", "yaxis": "y" if panel == 0 else f"y{panel + 1}"}


def reference(
    drawing: Drawing, uid: str, name: str, value: float, view: View, panel: int = 0, *, legend: bool = True
) -> None:
    """A thin level line from the first to the last drawn x: a null value, a bound, a threshold."""
    ends = [
        (float(trace["x"][0]), float(trace["x"][-1])) for trace in drawing.traces
        if isinstance(trace.get("x"), np.ndarray) and trace["x"].size
    ]  # fmt: skip
    if not ends:
        return
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    drawing.traces.append({
        "type": "scatter", "mode": "lines", "uid": uid, "name": theme.plain_text(name),
        "x": [low, high], "y": [value, value], "hovertemplate": f"%{{y:.5g}}<extra>{theme.plain_text(name)}</extra>",
        "line": {"color": theme.palette(view).muted, "width": 1.2, "dash": "dot"}, "showlegend": legend,
        **panel_axis(panel),
    })  # fmt: skip
