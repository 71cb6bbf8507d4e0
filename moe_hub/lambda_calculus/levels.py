"""The levels of the tasks: which terms each draws, and how many steps their reductions take.

In the layout `segments` the whole reduction is shown, so levels 1 and 2 are terms one step away from their normal
form; in the layout `direct` only one step is asked and the term may need more.
"""

from __future__ import annotations

from dataclasses import dataclass

from moe_hub.lambda_calculus.reduction import MAX_STEPS, redex_parts, redexes, subterm
from moe_hub.lambda_calculus.terms import Term, occurrences


@dataclass(frozen=True)
class Level:
    """A level: `strata` are ranges of steps (first, last) that get equal shares of the samples.

    `smallest_max_size`: the size that terms must be allowed to reach so that each split has terms of each stratum.
    `window`: only sizes from max_size - window up are drawn, because small terms hardly ever take so many steps.
    `named`: the direct prompt is a named term. `linear`: the redex's variable occurs exactly once.
    """

    number: int
    title: str
    strata: tuple[tuple[int, int], ...]
    smallest_max_size: int
    window: int | None = None
    named: bool = False
    linear: bool = False


LEVELS: dict[int, Level] = {
    level.number: level
    for level in (
        Level(0, "parse a named term", ((0, MAX_STEPS),), 7, named=True),
        Level(1, "one step, linear redex", ((1, MAX_STEPS),), 7, linear=True),
        Level(2, "one step, any redex", ((1, MAX_STEPS),), 7),
        Level(3, "normal form in 2 steps", ((2, 2),), 9),
        Level(4, "normal form in 3 or 4 steps", ((3, 3), (4, 4)), 12, window=6),
        Level(5, "normal form in 5 to 8 steps", ((5, 5), (6, 8)), 16, window=4),
    )
}
ONE_STEP_LEVELS = frozenset((1, 2))


def smallest_size(level: Level, min_size: int, max_size: int) -> int:
    """The smallest size that a level draws."""
    return min_size if level.window is None else max(min_size, max_size - level.window)


def step_range(level: Level, layout: str, turn: int) -> tuple[int, int]:
    """First and last number of steps that the `turn`-th sample of a level may take: the strata take turns."""
    if layout == "segments" and level.number in ONE_STEP_LEVELS:
        return (1, 1)
    return level.strata[turn % len(level.strata)]


def first_redex_is_linear(term: Term) -> bool:
    """Whether the variable of the first normal-order redex occurs exactly once."""
    path = next(redexes(term), None)
    if path is None:
        return False
    body, _ = redex_parts(subterm(term, path))
    return occurrences(body) == 1
