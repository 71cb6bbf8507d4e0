"""Which process is killed when: drawn from a seed, told in rows and seconds, so that a slow machine changes nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

VICTIMS = {"trainer": 0.55, "both": 0.25, "server": 0.2}
MOMENTS = {"starting": 0.2, "stepping": 0.45, "saving": 0.35}
MOST_ROWS = 30
STEP_S = 0.06  # about the time of a step, an evaluation or a checkpoint of the small model on a busy machine


@dataclass(frozen=True)
class Blow:
    """SIGKILL to `victim`.

    `starting`: after `share` of the time that the last start took, counted from the request. `stepping`: `delay_s`
    after `rows` new rows. `saving`: `delay_s` after the first checkpoint that is begun after `rows` new rows.
    """

    victim: str
    moment: str
    rows: int
    share: float
    delay_s: float


def blows(seed: int) -> Iterator[Blow]:
    """Blows without end, the same for the same seed."""
    dice = random.Random(seed)
    while True:
        victim = dice.choices(list(VICTIMS), list(VICTIMS.values()))[0]
        moment = dice.choices(list(MOMENTS), list(MOMENTS.values()))[0]
        rows, share, delay_s = dice.randint(0, MOST_ROWS), dice.random(), dice.uniform(0, STEP_S)
        yield Blow(victim, moment, rows, share, delay_s)
