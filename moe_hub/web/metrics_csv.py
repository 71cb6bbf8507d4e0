"""All metric rows of a run as CSV, in pieces."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np

from moe_hub.figures.csv_rows import safe_cell
from moe_hub.runs.history import RunHistory

PIECE = 5000


def metrics_csv(history: RunHistory) -> Iterator[bytes]:
    """step, unix time, tokens and one column per scalar metric; one line a row, empty where a row has no value."""
    names = [name for name in sorted(history.names()) if history.series(name)[1].size]
    snapshot = history.snapshot
    columns = {name: dict(zip(*(each.tolist() for each in history.series(name)), strict=True)) for name in names}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["step", "time", "tokens", *map(safe_cell, names)])
    for first in range(0, len(snapshot.steps), PIECE):
        steps = snapshot.steps[first : first + PIECE].tolist()
        times, tokens = (each[first : first + PIECE].tolist() for each in (snapshot.times, snapshot.tokens))
        for step, time, token in zip(steps, times, tokens, strict=True):
            writer.writerow([step, time, token, *(_cell(columns[name].get(step)) for name in names)])
        yield out.getvalue().encode()
        out.seek(0)
        out.truncate()
    yield out.getvalue().encode()


def _cell(value: float | None) -> float | str:
    if value is None:
        return ""
    return value if np.isfinite(value) else {np.inf: "Infinity", -np.inf: "-Infinity"}.get(value, "NaN")
