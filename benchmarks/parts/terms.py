"""Lambda terms and tasks a second: the sampler with the evaluator, and whole samples of every level and split."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from benchmarks.calibration import calibration_s, conditions
from benchmarks.options import Options
from benchmarks.report import Goal, PartResult, Table
from moe_hub.lambda_calculus.levels import LEVELS
from moe_hub.lambda_calculus.reduction import reduce
from moe_hub.lambda_calculus.sampling import random_term
from moe_hub.lambda_calculus.splits import Split
from moe_hub.lambda_calculus.tasks import TaskSettings, make_sample

SIZES = (7, 19)
MAX_TOKENS = 510  # no sample is drawn again for its length alone
GOAL = 5000.0
BUDGET_S = 2.0  # for a row and split
STRETCHES = 4
FEWEST = 8  # calls in a stretch, so that the best of a few rare ones is not a lucky one
DEFAULT = "tasks of levels 1, 2, 3 (the default)"
SPLITS: tuple[Split, ...] = ("train", "val")


def run(options: Options) -> PartResult:
    """Draws for a while at each level, for training and held out."""
    unit_s, budget_s = calibration_s(), options.budget_s(BUDGET_S)
    rng = Random(0)
    terms = rate(lambda: reduce(random_term(rng, rng.randint(*SIZES))), budget_s)
    rows, rates = [("terms, uniform by size, and their reduction", f"{terms:,.0f}", "")], {"terms": terms}
    levels: dict[str, tuple[int, ...]] = {DEFAULT: (1, 2, 3)}
    levels |= {f"tasks of level {number}: {level.title}": (number,) for number, level in LEVELS.items()}
    for name, numbers in levels.items():
        found = [rate(drawer(numbers, split), budget_s) for split in SPLITS]
        rows.append((name, *(f"{each:,.0f}" for each in found)))
        rates |= {f"{name}, {split}": each for split, each in zip(SPLITS, found, strict=True)}
    sizes = f"{SIZES[0]} to {SIZES[1]} nodes"
    title = f"drawn in a second of CPU time, {sizes}, layout `segments`, one process, best of {STRETCHES} stretches"
    result = PartResult(data={"unit_s": unit_s, "a_second": rates})
    result.tables.append(Table(title, ("what", "for training", "held out"), rows))
    result.goals.append(Goal("terms a second", terms, GOAL, "at least"))
    result.goals.append(Goal("tasks of levels 1, 2, 3 a second", rates[f"{DEFAULT}, train"], GOAL, "at least"))
    result.notes.append(
        "long reductions are rare among uniform terms, and two terms of a hundred are held out for each split: such "
        "samples are found by drawing many. They are drawn once, by several processes, and kept in the cache"
    )
    result.notes.append(conditions(unit_s))
    return result


def drawer(levels: tuple[int, ...], split: Split) -> Callable[[], Any]:
    """Draws the next sample of some levels each time it is called."""
    settings = TaskSettings(levels=levels, min_size=SIZES[0], max_size=SIZES[1], max_tokens=MAX_TOKENS)
    indices = count()
    return lambda: make_sample(settings, split, 0, next(indices))


def rate(draw: Callable[[], Any], budget_s: float) -> float:
    """Calls a second of CPU time: the best of some stretches, for a neighbour on the core slows the others down."""
    draw()  # tables of counts are made now
    return max(_rate_of_a_stretch(draw, budget_s / STRETCHES) for _ in range(STRETCHES))


def _rate_of_a_stretch(draw: Callable[[], Any], budget_s: float) -> float:
    begin, calls = time.thread_time(), 0
    while calls < FEWEST or time.thread_time() - begin < budget_s:
        draw()
        calls += 1
    return calls / (time.thread_time() - begin)
