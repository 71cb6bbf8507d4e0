"""Schedules of the rotation by reasoning phase: how far each phase is switched on, in [0, 1].

Legend: S = 4 phases: syntax, reduction, semantic, pedagogical.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moe_hub.models.language_model import PHASES

UNLOCK_AT = 0.9  # exact match of a phase that unlocks the next one
PLATEAU = 0.01  # relative gain of the loss between two evaluations below which a phase counts as learned


class CognitiveSchedule:
    """`weights(step)` gives the weight of each phase; `observe` feeds evaluations to the adaptive schedule.

    fixed: all 1 from the start. curriculum: phase k begins at k T/4 and ramps over T/8. adaptive: phase k + 1 begins
    when phase k is learned (exact match >= 0.9, or its loss has stopped falling) and ramps over T/8.
    """

    def __init__(self, scheduling: str, max_steps: int) -> None:
        self.scheduling = scheduling
        self.max_steps = max_steps
        self.begins: list[int | None] = [0, None, None, None]
        self.last_loss: dict[str, float] = {}

    def weights(self, step: int) -> list[float]:
        """Weight of each phase (S,) at a step."""
        if self.scheduling == "fixed":
            return [1.0] * len(PHASES)
        begins = self.begins
        if self.scheduling == "curriculum":
            begins = [phase * self.max_steps // len(PHASES) for phase in range(len(PHASES))]
        ramp = max(1.0, self.max_steps / 8)
        return [1.0] + [0.0 if begin is None else min(1.0, max(0.0, (step - begin) / ramp)) for begin in begins[1:]]

    def unlocked_level(self, step: int, levels: Sequence[int]) -> int | None:
        """Highest level of the tasks to train on: the curriculum opens one more with each phase, the last the rest.

        None is all levels, as in the other schedules.
        """
        if self.scheduling != "curriculum":
            return None
        begun = sum(weight > 0 for weight in self.weights(step))
        if begun == len(PHASES):
            return None  # there can be more levels than phases
        return sorted(levels)[min(begun, len(levels)) - 1]

    def observe(self, step: int, exact_match: dict[str, float], loss: dict[str, float]) -> None:
        """Unlocks at most one more phase (adaptive only), from the values of one evaluation by phase name."""
        if self.scheduling != "adaptive" or None not in self.begins:
            return
        following = self.begins.index(None)
        current = PHASES[following - 1]
        before, now = self.last_loss.get(current), loss.get(current)
        plateau = before is not None and now is not None and before - now < PLATEAU * before
        if exact_match.get(current, 0.0) >= UNLOCK_AT or plateau:
            self.begins[following] = step
        self.last_loss = dict(loss)

    def state_dict(self) -> dict[str, Any]:
        """JSON-able state."""
        return {"begins": self.begins, "last_loss": self.last_loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.begins, self.last_loss = list(state["begins"]), dict(state["last_loss"])
