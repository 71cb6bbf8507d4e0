"""The table of an experiment: mean, standard deviation and 95 % interval over seeds.

Two columns for each metric: at equal steps (the end of the run) and at equal compute (the value each run had reached
when it had used as much CPU time as the cheapest run of all used in the end).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe_hub.experiments.ledger import Ledger
from moe_hub.experiments.plan import Plan
from moe_hub.runs.history import RunHistory
from moe_hub.runs.reader import MetricReader

COMPUTE = "time/cpu_s"
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
class Line:
    """One arm: its parameters, CPU seconds, run ids, and an estimate for each metric, at equal steps and compute."""

    arm: str
    parameters: int
    active: int
    cpu_s: float
    run_ids: tuple[str, ...]
    equal_steps: dict[str, Estimate]
    equal_compute: dict[str, Estimate]


def collect(ledger: Ledger, plan: Plan) -> list[Line]:
    """One line for each arm that has a finished run."""
    finished: dict[str, list[RunHistory]] = {}
    for arm, seed in plan.cells():
        run = ledger.run(arm, seed)
        if run is not None and run.state() == "finished":
            reader = MetricReader(run.path)
            reader.poll()
            finished.setdefault(arm, []).append(reader.history())
    budget = min((_last(history, COMPUTE) for found in finished.values() for history in found), default=math.nan)
    return [_line(arm, histories, list(plan.metrics), budget) for arm, histories in finished.items()]


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


def at_compute(history: RunHistory, metric: str, budget: float) -> float:
    """The metric when the run had used `budget` CPU seconds, between two evaluations by a straight line.

    NaN where the first evaluation came later.
    """
    steps, values = history.series(metric)
    at_steps, spent = history.series(COMPUTE)
    if not len(steps) or not len(at_steps):
        return math.nan
    used = np.interp(steps, at_steps, spent)
    return math.nan if budget < used[0] else float(np.interp(budget, used, values))


def markdown(lines: Sequence[Line], metrics: Sequence[str]) -> str:
    """The table as Markdown, arms in the order of the plan."""
    heads = ["arm", "parameters", "active", "CPU-s"]
    heads += [f"{metric}, {column}" for metric in metrics for column in ("equal steps", "equal compute")]
    rows = [heads, ["---"] * len(heads)]
    for line in lines:
        row = [line.arm, f"{line.parameters:,}", f"{line.active:,}", f"{line.cpu_s:.0f}"]
        for metric in metrics:
            row += [_shown(line.equal_steps[metric]), _shown(line.equal_compute[metric])]
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _line(arm: str, histories: Sequence[RunHistory], metrics: Sequence[str], budget: float) -> Line:
    status = histories[0].status
    parameters = status.parameters if status is not None else {}
    return Line(
        arm,
        int(parameters.get("total", 0)),
        int(parameters.get("active", 0)),
        float(np.mean([_last(history, COMPUTE) for history in histories])),
        tuple(history.run_id for history in histories),
        {metric: estimate([_last(history, metric) for history in histories]) for metric in metrics},
        {metric: estimate([at_compute(history, metric, budget) for history in histories]) for metric in metrics},
    )


def _last(history: RunHistory, metric: str) -> float:
    _, values = history.series(metric)
    return float(values[-1]) if len(values) else math.nan


def _shown(value: Estimate) -> str:
    if value.n < 2:
        return f"{value.mean:.4f} (n {value.n})" if value.n else "none"
    return f"{value.mean:.4f} ± {value.half_width:.4f} (sd {value.sd:.4f}, n {value.n})"
