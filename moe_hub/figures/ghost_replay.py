"""What a threshold would have woken, from the logged saturation and the rules of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from moe_hub.model_config import GhostConfig
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

    Judged once per window of the run, on the last logged row of each: a layer is saturated when its saturation is
    above the threshold; after `patience` saturated windows in a row, if the loss improved by less than `plateau` and
    `min_step` is past, one of its sleeping ghosts wakes, unless another of the layer is still on its ramp. With the
    schedule `selective` only the most saturated of these layers wakes one.
    """
    steps, saturation = history.arrays("ghost/saturation")
    if saturation.ndim != 2:
        return []
    improvement = _improvement(history, steps)
    last = np.flatnonzero(np.append(steps[1:] // rules.window != steps[:-1] // rules.window, True))
    layers = saturation.shape[1]
    run_of, woken, busy_until = np.zeros(layers, int), np.zeros(layers, int), np.full(layers, -1)
    events = []
    for row in last.tolist():
        step = int(steps[row])
        with np.errstate(invalid="ignore"):
            run_of = np.where(saturation[row] > threshold, run_of + 1, 0)
        if step <= rules.min_step or not improvement[row] < rules.plateau:
            continue
        ready = (run_of >= rules.patience) & (woken < rules.ghosts) & (step >= busy_until)
        if rules.schedule == "selective" and ready.any():
            ready &= np.arange(layers) == int(np.where(ready, saturation[row], -np.inf).argmax())
        for layer in np.flatnonzero(ready).tolist():
            events.append(Wake(step, layer))
            woken[layer] += 1
            busy_until[layer] = step + rules.ramp_steps
            run_of[layer] = 0
    return events


def _improvement(history: RunHistory, steps: np.ndarray) -> np.ndarray:
    """Loss improvement at the rows of the saturation: the newest logged one; before the first, infinite."""
    known_steps, values = history.series("ghost/loss_improvement")
    if not values.size:
        return np.zeros(len(steps))
    place = np.searchsorted(known_steps, steps, "right") - 1
    return np.where(place >= 0, values[np.maximum(place, 0)], np.inf)
