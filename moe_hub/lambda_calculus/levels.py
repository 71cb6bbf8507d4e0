"""The levels of the tasks: which terms each draws, what it asks, and how many steps the reductions take.

In the layout `segments` the whole reduction is shown, so levels 1 and 2 are terms one step away from their normal
form; in the layout `direct` only one step is asked and the term may need more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from moe_hub.lambda_calculus.reduction import MAX_STEPS, redex
from moe_hub.lambda_calculus.terms import Term, occurrences

Question: TypeAlias = Literal["parse", "step", "normal form", "trace", "named step"]
ANY_STEPS = (0, MAX_STEPS)
SOME_STEPS = (1, MAX_STEPS)


@dataclass(frozen=True)
class Level:
    """A level: `strata` are ranges of steps (first, last) that get equal shares of the samples.

    `question`: what the direct layout asks. `smallest_max_size`: the size that terms must be allowed to reach so that
    each split has terms of each stratum. `window`: only sizes from max_size - window up are drawn, because small terms
    hardly ever take so many steps. `linear`: the first redex's variable occurs exactly once. `church`: terms with a
    meaning instead of uniform ones, so sizes do not apply. `capture`: names are chosen so that the first step must
    rename a binder.
    """

    number: int
    title: str
    question: Question
    strata: tuple[tuple[int, int], ...]
    smallest_max_size: int
    window: int | None = None
    linear: bool = False
    church: bool = False
    capture: bool = False


LEVELS: dict[int, Level] = {
    level.number: level
    for level in (
        Level(0, "parse a named term", "parse", (ANY_STEPS,), 7),
        Level(1, "one step, linear redex", "step", (SOME_STEPS,), 7, linear=True),
        Level(2, "one step, any redex", "step", (SOME_STEPS,), 7),
        Level(3, "normal form in 2 steps", "normal form", ((2, 2),), 9),
        Level(4, "normal form in 3 or 4 steps", "normal form", ((3, 3), (4, 4)), 12, window=6),
        Level(5, "normal form in 5 to 8 steps", "normal form", ((5, 5), (6, 8)), 16, window=4),
        Level(6, "Church arithmetic, booleans, pairs, combinators", "normal form", (SOME_STEPS,), 2, church=True),
        Level(7, "full trace", "trace", ((1, 1), (2, 2), (3, 4)), 12),
        Level(8, "one step of a named term that must rename", "named step", (SOME_STEPS,), 9, capture=True),
    )
}


def smallest_size(level: Level, min_size: int, max_size: int) -> int:
    """The smallest size that a level draws."""
    return min_size if level.window is None else max(min_size, max_size - level.window)


def step_range(level: Level, layout: str, turn: int) -> tuple[int, int]:
    """First and last number of steps that the `turn`-th sample of a level may take: the strata take turns."""
    if layout == "segments" and level.question == "step":
        return (1, 1)
    return level.strata[turn % len(level.strata)]


def first_redex_is_linear(term: Term) -> bool:
    """Whether the variable of the first normal-order redex occurs exactly once."""
    parts = redex(term)
    return parts is not None and occurrences(parts[0]) == 1
