"""The numbers of an experiment: mean, standard deviation and 95 % interval over seeds, and differences seed by seed.

Each metric is read twice: at equal steps (the end of each run) and at equal compute (the value that a run had reached
when it had used as many operations as one arm used in all). A run that is cut off early there had not lowered its
learning rate yet, which speaks against it: so a plan does best to have an arm that trains a cheap model for as long as
the others cost, and to take that arm's operations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from moe_hub.experiments.flops import flops_per_token
from moe_hub.experiments.ledger import Ledger
from moe_hub.experiments.plan import Plan
from moe_hub.runs.history import RunHistory
from moe_hub.runs.reader import MetricReader

CPU_TIME = "time/cpu_s"
SAME = 0.02  # operations that differ by less are the same: rows of a batch are not equally full in every seed
# Two-sided 95 % quantiles of Student's t by degrees of freedom, 1 to 10; beyond, a fit that is right to 0.003.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Estimate:
    """Mean of n values, sample standard deviation, half width of the 95 % interval (Student's t); NaN for n < 2."""

    mean: float
    sd: float
    half_width: float
    n: int


@dataclass(frozen=True)
class Cell:
    """A finished run: what it cost and what it reached."""

    run_id: str
    total: int
    active: int
    cpu_s: float
    flops_per_token: float
    tokens: float
    history: RunHistory

    @property
    def flops(self) -> float:
        """Operations of the whole training."""
        return self.flops_per_token * self.tokens

    def at_end(self, metric: str) -> float:
        """The last value of a metric; NaN where there is none."""
        _, values = self.history.series(metric)
        return float(values[-1]) if len(values) else math.nan

    def at_flops(self, metric: str, budget: float) -> float:
        """The metric after `budget` operations, between two evaluations by a straight line.

        NaN before the first evaluation, and where the run ended earlier.
        """
        used = self.flops_per_token * self.history.x_values(metric, "tokens")
        _, values = self.history.series(metric)
        reached = len(used) and used[0] <= budget <= (1 + SAME) * used[-1]
        return float(np.interp(budget, used, values)) if reached else math.nan


@dataclass(frozen=True)
class Arm:
    """The finished runs of an arm, by seed."""

    name: str
    cells: Mapping[int, Cell] = field(default_factory=dict)

    def mean(self, number: str) -> float:
        """Mean of a number of the cells."""
        return float(np.mean([getattr(cell, number) for cell in self.cells.values()]))

    def equal_steps(self, metric: str) -> Estimate:
        """Of the ends of the runs."""
        return estimate([cell.at_end(metric) for cell in self.cells.values()])

    def equal_compute(self, metric: str, budget: float) -> Estimate:
        """After the same number of operations."""
        return estimate([cell.at_flops(metric, budget) for cell in self.cells.values()])

    def minus(self, baseline: Arm, metric: str) -> Estimate:
        """Of the differences from another arm's run with the same seed, at the ends."""
        shared = [seed for seed in self.cells if seed in baseline.cells]
        return estimate([self.cells[seed].at_end(metric) - baseline.cells[seed].at_end(metric) for seed in shared])


def collect(ledger: Ledger, plan: Plan) -> list[Arm]:
    """The arms that have finished runs, in the order of the plan."""
    cells: dict[str, dict[int, Cell]] = {}
    for arm, seed in plan.cells():
        run = ledger.run(arm, seed)
        if run is not None and run.state() == "finished":
            reader = MetricReader(run.path)
            reader.poll()
            cells.setdefault(arm, {})[seed] = _cell(plan, arm, seed, reader.history())
    return [Arm(arm, cells[arm]) for arm in plan.arms if arm in cells]


def budget_of(arms: Sequence[Arm], name: str | None = None) -> float:
    """The operations of an arm, by default of the cheapest; NaN where it has no finished run."""
    return min((arm.mean("flops") for arm in arms if name in (None, arm.name)), default=math.nan)


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and spread of the finite values."""
    kept = [value for value in values if math.isfinite(value)]
    n = len(kept)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = sum(kept) / n
    if n == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    sd = math.sqrt(sum((value - mean) ** 2 for value in kept) / (n - 1))
    degrees = n - 1
    quantile = _T[degrees - 1] if degrees <= len(_T) else 1.96 + 2.37 / degrees + 2.8 / degrees**2
    return Estimate(mean, sd, quantile * sd / math.sqrt(n), n)


def _cell(plan: Plan, arm: str, seed: int, history: RunHistory) -> Cell:
    parameters = history.status.parameters if history.status is not None else {}
    config = plan.config(arm, seed)
    vocabulary = int(parameters.get("parts", {}).get("embedding", 0)) // config.model.d_model
    tokens = history.x_values(CPU_TIME, "tokens")
    return Cell(
        history.run_id,
        int(parameters.get("total", 0)),
        int(parameters.get("active", 0)),
        _last(history, CPU_TIME),
        flops_per_token(config, vocabulary) if vocabulary else math.nan,
        float(tokens[-1]) if len(tokens) else math.nan,
        history,
    )


def _last(history: RunHistory, metric: str) -> float:
    _, values = history.series(metric)
    return float(values[-1]) if len(values) else math.nan
