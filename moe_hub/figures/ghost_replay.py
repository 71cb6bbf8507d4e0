"""What a threshold would have woken, from the logged saturation and the rules of the run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from moe_hub.config.model import GhostConfig
from moe_hub.runs.history import RunHistory


@dataclass(frozen=True)
class Rules:
    """The ghost section of a run's config."""

    threshold: float
    window: int
    patience: int
    plateau: float
    min_step: int
    ramp_steps: int
    ghosts: int
    schedule: str


@dataclass(frozen=True)
class Wake:
    """One ghost of a layer begins to wake after a step."""

    step: int
    layer: int


def read_rules(history: RunHistory) -> Rules:
    """From the config of the run; what is missing is the schema's default."""
    known: Any = history.config.get("model", {}).get("ghost", {})
    fields = {name: known[name] for name in GhostConfig.model_fields if name in known}
    try:
        ghost = GhostConfig.model_validate(fields)
    except ValueError:
        ghost = GhostConfig()
    return Rules(
        ghost.activation_threshold, ghost.saturation_window, ghost.patience, ghost.plateau, ghost.min_step,
        1 if ghost.activation_schedule == "binary" else ghost.ramp_steps, ghost.num_ghosts, ghost.activation_schedule,
    )  # fmt: skip


def replay(history: RunHistory, rules: Rules, threshold: float) -> list[Wake]:
    """The ghosts that the threshold would have woken, in the order of steps.

    The rules are those of training: at the end of each window (a multiple of `window` steps) a layer is saturated when
    its saturation is above the threshold and the loss improved by less than `plateau`; after `patience` such windows
    in a row, from `min_step` on, one of its sleeping ghosts wakes, unless another of the layer is on its ramp. With
    the schedule `selective` only the most saturated of these layers wakes one, and none while any ghost is on its
    way. Saturation is that of the last row logged up to the window's end, improvement that of the first row from it.
    """
    steps, saturation = history.arrays("ghost/saturation")
    if saturation.ndim != 2:
        return []
    layers = saturation.shape[1]
    run_of, woken, busy_until = np.zeros(layers, int), np.zeros(layers, int), np.full(layers, -1)
    events = []
    for step, values, improvement in _windows(history, steps, saturation, rules.window):
        with np.errstate(invalid="ignore"):
            saturated = (values > threshold) & (improvement < rules.plateau)
        run_of = np.where(saturated, run_of + 1, 0)
        busy = step < busy_until
        ready = (run_of >= rules.patience) & (step >= rules.min_step) & (woken < rules.ghosts) & ~busy
        if rules.schedule == "selective":
            ready &= (np.arange(layers) == int(np.where(ready, values, -np.inf).argmax())) & (not busy.any())
        for layer in np.flatnonzero(ready).tolist():
            events.append(Wake(step, layer))
            woken[layer] += 1
            run_of[layer] = 0
            busy_until[layer] = step + rules.ramp_steps - 1
    return events


def _windows(
    history: RunHistory, steps: np.ndarray, saturation: np.ndarray, window: int
) -> Iterator[tuple[int, np.ndarray, float]]:
    """(last step, saturation (layers,), improvement of the loss) of each finished window that has a row."""
    known_steps, improvements = history.series("ghost/loss_improvement")
    for end in range(window, int(steps[-1]) + 1 if len(steps) else 0, window):
        row = int(np.searchsorted(steps, end, "right")) - 1
        if row < 0 or steps[row] <= end - window:
            continue
        place = int(np.searchsorted(known_steps, end))
        yield end, saturation[row], float(improvements[place]) if place < len(known_steps) else float("nan")
