"""What a person should be told without asking: dead experts, values that are not finite, loss spikes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from moe_hub.figures.parts import expert_name, primary_experts
from moe_hub.figures.smoothing import smooth
from moe_hub.runs.history import RunHistory

DEAD_SHARE = 0.01  # of tokens, as in the table of metrics
DEAD_ROWS = 3  # in a row, so that one odd batch is no alarm
SPIKE_SIGMAS = 8.0
SPIKE_SHARE = 0.2  # a spike also stands this much above the level before it
SPIKE_ROWS = 20  # rows before anything can be called unusual
_MEMORY = 0.95  # of level and spread


_KNOWN_LATER = frozenset({"ghost/loss_improvement"})  # NaN until two windows have ended


@dataclass(frozen=True)
class Alarm:
    """One thing that is wrong: `step` is when it began or was worst, `text` what happened and what to look at."""

    kind: Literal["not_finite", "dead_expert", "loss_spike"]
    metric: str
    step: int
    text: str


def alarms(history: RunHistory) -> list[Alarm]:
    """All alarms of a run, the most serious kind first; pure, and cheap for 1,000,000 rows."""
    return not_finite(history) + dead_experts(history) + loss_spikes(history)


def not_finite(history: RunHistory) -> list[Alarm]:
    """One alarm for each metric that holds NaN or infinity; losses and gradients first."""
    found = []
    for name in sorted(history.names(), key=lambda name: (not name.startswith(("train/", "loss/", "val/")), name)):
        steps, values = history.arrays(name)
        wrong = ~np.isfinite(values.reshape(len(values), -1)).all(1)
        if name in _KNOWN_LATER:
            wrong[: int(np.append(~np.isnan(values.reshape(len(values), -1)).all(1), True).argmax())] = False
        count = int(wrong.sum())
        if count:
            first = int(steps[int(wrong.argmax())])
            text = f"{name} is not finite in {count:,} of {len(steps):,} rows, first at step {first:,}"
            found.append(Alarm("not_finite", name, first, text))
    return found


def dead_experts(history: RunHistory) -> list[Alarm]:
    """Experts that almost no token used in the newest `DEAD_ROWS` rows; ghosts that sleep are not dead."""
    steps, values = history.arrays("expert/utilization")
    if values.ndim != 3 or len(values) < DEAD_ROWS:
        return []
    experts = primary_experts(history, values.shape[2])
    with np.errstate(invalid="ignore"):
        used = values[:, :, :experts] >= DEAD_SHARE
    found = []
    for layer, expert in np.argwhere(~used[-DEAD_ROWS:].any(0)).tolist():
        alive = np.flatnonzero(used[:, layer, expert])
        since = int(steps[alive[-1] + 1]) if alive.size else int(steps[0])
        text = (f"{expert_name(expert, experts)} of layer {layer} is dead since step {since:,}: "
                f"fewer than {DEAD_SHARE:.0%} of the tokens use it")  # fmt: skip
        found.append(Alarm("dead_expert", "expert/utilization", since, text))
    return found


def loss_spikes(history: RunHistory) -> list[Alarm]:
    """The highest spike of the training loss, and how many there are: rows far above the level and spread of those
    before them."""
    steps, values = history.series("train/loss")
    wrong = spikes(values)
    if not wrong.any():
        return []
    worst = int(np.where(wrong, np.nan_to_num(values, nan=-np.inf), -np.inf).argmax())
    count = int(wrong.sum())
    others = f"; {count - 1} more row{'s' if count > 2 else ''} like it" if count > 1 else ""
    text = f"the training loss jumped to {values[worst]:.4g} at step {int(steps[worst]):,}{others}"
    return [Alarm("loss_spike", "train/loss", int(steps[worst]), text)]


def spikes(values: np.ndarray) -> np.ndarray:
    """Which rows stand more than `SPIKE_SIGMAS` mean absolute deviations and `SPIKE_SHARE` above the moving average
    of the rows before them, (S,)."""
    finite = np.isfinite(values)
    y = values[finite]
    found = np.zeros(values.size, dtype=bool)
    if y.size <= SPIKE_ROWS:
        return found
    level = smooth(y, _MEMORY)
    above = y[1:] - level[:-1]
    spread = smooth(np.abs(above), _MEMORY)
    high = np.zeros(y.size, dtype=bool)
    high[2:] = (above[1:] > SPIKE_SIGMAS * spread[:-1]) & (above[1:] > SPIKE_SHARE * np.abs(level[1:-1]))
    high[:SPIKE_ROWS] = False
    found[np.flatnonzero(finite)] = high
    return found
