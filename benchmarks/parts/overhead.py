"""Part 5: what coupling, rotation, dormant ghosts and metric rows add to a step. An identical pair shows the noise.

All variants live in one process and take turns: differences of a few percent would drown in those between processes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.options import Options
from benchmarks.report import Goal, PartResult, Table, milliseconds, percent_over
from benchmarks.timing import Built, Contender, Timings, measure
from benchmarks.training_step import Shape, TrainingStep, new_step
from moe_hub.runs.writer import MetricWriter

UNCOUPLED = {"model.coupling.num_layers": 0}
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "soft gate, no coupling": ("hgnn", UNCOUPLED),
    "plain mean, no coupling": ("hgnn", {**UNCOUPLED, "model.readout": "mean"}),
    "hgnn": ("hgnn", {}),
    "hgnn again": ("hgnn", {}),
    "hgnn, two coupling layers": ("hgnn", {"model.coupling.num_layers": 2}),
    "geometric": ("geometric", {}),
    "geometric, mode geometric": ("geometric", {"train.mode": "geometric"}),
    "ghost, 0 ghosts": ("ghost", {"model.ghost.num_ghosts": 0}),
    "ghost, 4 dormant": ("ghost", {"model.ghost.num_ghosts": 4}),
}
COMPARED = [  # over, under, goal in percent
    ("hgnn again", "hgnn", None),
    ("hgnn", "soft gate, no coupling", 10.0),
    ("hgnn, two coupling layers", "soft gate, no coupling", None),
    ("soft gate, no coupling", "plain mean, no coupling", None),
    ("geometric", "hgnn", 10.0),
    ("geometric, mode geometric", "hgnn", None),
    ("ghost, 4 dormant", "ghost, 0 ghosts", 0.0),
]
LOG_EVERY = 10
NO_ROWS, ROWS, ALL_ROWS = "no rows", f"a row every {LOG_EVERY} steps", "a row every step"


def build_steps() -> Built:
    """A step of every variant."""
    return Built(variants={name: new_step(*arguments, Shape()) for name, arguments in STEPS.items()})


def build_logging() -> Built:
    """One model; its steps without rows, with one in ten, and with all. `geometric` measures most."""
    step = new_step("geometric", {}, Shape())
    folder = tempfile.TemporaryDirectory()
    step.writer = MetricWriter(Path(folder.name))
    variants = {NO_ROWS: 0, ROWS: LOG_EVERY, ALL_ROWS: 1}
    return Built(
        calls={"close": folder.cleanup},
        variants={name: _logging_every(step, every) for name, every in variants.items()},
    )


def _logging_every(step: TrainingStep, every: int) -> Any:
    def run() -> None:
        step.log_every = every
        step()

    return run


def run(options: Options) -> PartResult:
    """Overheads in percent with intervals; the shape is that of the step part."""
    result = PartResult()
    steps = measure([Contender("steps", "benchmarks.parts.overhead:build_steps")], rounds=options.rounds(16), steps=2,
                    budget_s=options.budget_s(60), repeats=2)  # fmt: skip
    logging = measure([Contender("logging", "benchmarks.parts.overhead:build_logging")], rounds=options.rounds(8),
                      steps=LOG_EVERY, budget_s=options.budget_s(40), calls=("close",))  # fmt: skip
    result.data = {"steps": steps.as_json(), "logging": logging.as_json()}
    rows = [_row(steps, over, under, goal, result) for over, under, goal in COMPARED]
    rows.append(_row(logging, ROWS, NO_ROWS, 2.0, result))
    rows.append(_row(logging, ALL_ROWS, NO_ROWS, None, result))
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
