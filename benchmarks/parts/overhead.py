"""Part 5: what coupling, rotation, dormant ghosts and metric rows add to a step. An identical pair shows the noise."""

from __future__ import annotations

from typing import Any

from benchmarks.options import Options
from benchmarks.report import Goal, PartResult, Table, milliseconds, percent_over
from benchmarks.timing import Contender, Timings, measure

BUILD = "benchmarks.training_step:build"
LOG_EVERY = 10


def _step(name: str, architecture: str, **overrides: Any) -> Contender:
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return Contender(name, BUILD, {"architecture": architecture, "overrides": dotted})


STEPS = [
    _step("soft gate, no coupling", "hgnn", model__coupling__num_layers=0),
    _step("plain mean, no coupling", "hgnn", model__coupling__num_layers=0, model__readout="mean"),
    _step("hgnn", "hgnn"),
    _step("hgnn again", "hgnn"),
    _step("hgnn, two coupling layers", "hgnn", model__coupling__num_layers=2),
    _step("geometric", "geometric"),
    _step("geometric, mode geometric", "geometric", train__mode="geometric"),
    _step("ghost, 0 ghosts", "ghost", model__ghost__num_ghosts=0),
    _step("ghost, 4 dormant", "ghost", model__ghost__num_ghosts=4),
]
COMPARED = [  # over, under, goal in percent
    ("hgnn again", "hgnn", None),
    ("hgnn", "soft gate, no coupling", 10.0),
    ("hgnn, two coupling layers", "soft gate, no coupling", None),
    ("soft gate, no coupling", "plain mean, no coupling", None),
    ("geometric", "hgnn", 10.0),
    ("geometric, mode geometric", "hgnn", None),
    ("ghost, 4 dormant", "ghost, 0 ghosts", 0.0),
]
LOGGING = [
    Contender("no rows", BUILD, {"architecture": "geometric", "log_every": 0}),
    Contender(f"a row every {LOG_EVERY}", BUILD, {"architecture": "geometric", "log_every": LOG_EVERY}),
    Contender("a row every step", BUILD, {"architecture": "geometric", "log_every": 1}),
]


def run(options: Options) -> PartResult:
    """Overheads in percent with intervals; the shape is that of the step part."""
    result = PartResult()
    steps = measure(STEPS, rounds=options.rounds(24), steps=2, budget_s=options.budget_s(110))
    logging = measure(LOGGING, rounds=options.rounds(8), steps=LOG_EVERY, budget_s=options.budget_s(45),
                      calls=("close",))  # fmt: skip
    result.data = {"steps": steps.as_json(), "logging": logging.as_json()}
    rows = [_row(steps, over, under, goal, result) for over, under, goal in COMPARED]
    every, never = LOGGING[1].name, LOGGING[0].name
    rows.append(_row(logging, every, never, 2.0, result))
    rows.append(_row(logging, LOGGING[2].name, never, None, result))
    columns = ("step", "compared with", "CPU ms min / median", "overhead, median [95 %]", "of minima")
    result.tables.append(Table("Overheads, E 8, d 128, 2 layers, B 8, T 128, V 512, one thread", columns, rows))
    return result


def _row(timings: Timings, over: str, under: str, goal: float | None, result: PartResult) -> tuple[str, ...]:
    ratio = timings.ratio(over, under)
    if goal is not None:
        low, middle, high = (100 * (value - 1) for value in (ratio.low, ratio.median, ratio.high))
        if goal == 0.0:  # nothing, within the noise: the lower end of the interval must not be above 0
            result.goals.append(Goal(f"{over}: least overhead in % that the interval allows", low, 0.0, "at most"))
        else:
            result.goals.append(Goal(f"{over} over {under}, %", middle, goal, "at most", low, high))
    of_minima = f"{100 * (ratio.of_minima - 1):+.1f} %"
    return over, under, milliseconds(timings.cpu_s[over]), percent_over(ratio), of_minima
