"""Runs side by side as tables: where their configs differ, and where their metrics ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moe_hub.figures.lines import run_label
from moe_hub.runs.history import RunHistory

_NOT_SETTINGS = frozenset({"schema_version", "version"})
FINAL_FIRST = (
    "val/loss", "val/perplexity", "val/exact_match", "val/token_accuracy", "train/loss", "loss/total",
    "time/tokens_per_s", "time/active_s", "time/cpu_s",
)  # fmt: skip
_MAIN_METRICS = ("val/loss", "val/exact_match", "time/tokens_per_s")
_MAIN_SETTINGS = 2  # more do not fit beside them on a laptop's screen
_IN_LABEL = ("name", "description")  # the first column says it
_NOT_FINAL = ("optim/", "event/", "system/")


@dataclass(frozen=True)
class Table:
    """Column names, and rows of as many values; the first column names the row. None is an empty cell."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def flat_config(history: RunHistory) -> dict[str, Any]:
    """The config as {dotted key: value}."""
    return {key: value for key, value in _flat(history.config, "") if key.split(".")[0] not in _NOT_SETTINGS}


def _flat(values: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return found


def config_difference(histories: Sequence[RunHistory]) -> Table:
    """A row for each config key whose value is not the same in all runs; None where a run has no such key."""
    configs = [flat_config(history) for history in histories]
    keys = list(dict.fromkeys(key for config in configs for key in config))
    rows = []
    for key in keys:
        values = [config.get(key) for config in configs]
        if any(value != values[0] or type(value) is not type(values[0]) for value in values):
            rows.append((key, *values))
    return Table(("setting", *(run_label(history) for history in histories)), tuple(rows))


def final_metrics(histories: Sequence[RunHistory], names: Sequence[str] | None = None) -> Table:
    """A row per run: state, steps, and the last value of each scalar metric of the runs, or of those in `names`; of
    held-out loss and exact match also the best."""
    names = _final_names(histories) if names is None else [name for name in names if name in _final_names(histories)]
    best = [name for name in names if name in ("val/loss", "val/exact_match")]
    columns = ("run", "state", "steps", *names, *(f"{name} (best)" for name in best))
    rows = []
    for history in histories:
        steps = history.snapshot.steps
        state = history.status.state if history.status else None
        last = [_last(history, name) for name in names]
        extremes = [_best(history, name) for name in best]
        rows.append((run_label(history), state, int(steps[-1]) if len(steps) else None, *last, *extremes))
    return Table(columns, tuple(rows))


def comparison(histories: Sequence[RunHistory]) -> Table:
    """A row per run: its label, state and steps, the settings in which the runs differ, and where its metrics ended."""
    settings, final = config_difference(histories), final_metrics(histories, FINAL_FIRST)
    columns = (*final.columns[:3], *(row[0] for row in settings.rows), *final.columns[3:])
    rows = tuple(
        (*ended[:3], *(row[1 + index] for row in settings.rows), *ended[3:]) for index, ended in enumerate(final.rows)
    )
    return Table(columns, rows)


def main_columns(table: Table) -> list[int]:
    """Numbers of the columns of a `comparison` to look at first: run, state, steps, a few settings and metrics."""
    settings = [at for at, name in enumerate(table.columns) if at > 2 and "/" not in name and name not in _IN_LABEL]
    metrics = [at for at, name in enumerate(table.columns) if name in _MAIN_METRICS]
    return [0, 1, 2, *settings[:_MAIN_SETTINGS], *metrics]


def _final_names(histories: Sequence[RunHistory]) -> list[str]:
    known = {name for history in histories for name, (_, values) in history.snapshot.columns.items()
             if values.ndim == 1 and not name.startswith(_NOT_FINAL)}  # fmt: skip
    first = [name for name in FINAL_FIRST if name in known]
    return first + sorted(known - set(first))


def _last(history: RunHistory, name: str) -> float | None:
    values = history.series(name)[1]
    return float(values[-1]) if values.size else None


def _best(history: RunHistory, name: str) -> float | None:
    values = history.series(name)[1]
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    return float(values.min() if name == "val/loss" else values.max())


def scalar_names(histories: Sequence[RunHistory]) -> list[str]:
    """Metrics that an overlay can show, the final ones first."""
    known = {name for history in histories for name, (_, values) in history.snapshot.columns.items()
             if values.ndim == 1 and not name.startswith("event/")}  # fmt: skip
    first = [name for name in FINAL_FIRST if name in known]
    return first + sorted(known - set(first))


def differing_keys(histories: Sequence[RunHistory]) -> list[str]:
    """Config keys by which runs can be grouped: those that are not the same in all of them."""
    return [row[0] for row in config_difference(histories).rows]
