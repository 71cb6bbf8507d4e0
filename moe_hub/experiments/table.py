"""The results of an experiment as Markdown: what each arm cost, and what each metric came to."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from moe_hub.errors import ConfigError
from moe_hub.experiments.plan import Plan
from moe_hub.experiments.results import Arm, Estimate, budget_of


def document(plan: Plan, arms: Sequence[Arm]) -> str:
    """Question, costs, results, and the runs behind them."""
    seeds = sorted({seed for arm in arms for seed in arm.cells})
    missing = [f"{arm}, seed {seed}" for arm, seed in plan.cells() if not _finished(arms, arm, seed)]
    parts = [f"{plan.name}: {plan.question}", f"Finished runs of seeds {seeds}."]
    parts += [f"Not finished: {'; '.join(missing)}."] if missing else []
    parts += [costs(arms), results(plan, arms), runs(arms)]
    return "\n\n".join(parts)


def put_into(file: Path, plan: Plan, arms: Sequence[Arm]) -> None:
    """Replaces what stands in a Markdown file between `<!-- experiment NAME -->` and `<!-- end NAME -->`.

    Raises `ConfigError` where the file cannot be changed or has no such place.
    """
    begin, end = f"<!-- experiment {plan.name} -->", f"<!-- end {plan.name} -->"
    try:
        before, found, rest = file.read_text(encoding="utf-8").partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ConfigError(f"{file} has no lines {begin} and {end}; write them where the table should stand")
        file.write_text(f"{before}{begin}\n\n{_dated(arms)}{document(plan, arms)}\n\n{end}{after}", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file} cannot be changed: {error.strerror}") from None


def _dated(arms: Sequence[Arm]) -> str:
    """The days of the runs, which their ids begin with."""
    days = sorted({f"{day[:4]}-{day[4:6]}-{day[6:8]}" for day in _days(arms)})
    return f"Trained on {' and '.join(days)}.\n\n" if days else ""


def _days(arms: Sequence[Arm]) -> list[str]:
    ids = [cell.run_id for arm in arms for cell in arm.cells.values()]
    return [run_id[:8] for run_id in ids if re.match(r"\d{8}-", run_id)]


def costs(arms: Sequence[Arm]) -> str:
    """Parameters, operations (exact) and CPU time (which grows with the load of the machine) of each arm."""
    rows = [["arm", "runs", "parameters", "active", "MFLOP a token", "TFLOP in all", "CPU-s (least to most)"]]
    for arm in arms:
        times = [cell.cpu_s for cell in arm.cells.values()]
        rows.append([
            arm.name, str(len(arm.cells)), f"{arm.mean('total'):,.0f}", f"{arm.mean('active'):,.0f}",
            f"{arm.mean('flops_per_token') / 1e6:.2f}", f"{arm.mean('flops') / 1e12:.2f}",
            f"{sum(times) / len(times):.0f} ({min(times):.0f} to {max(times):.0f})",
        ])  # fmt: skip
    return _table(rows)


def results(plan: Plan, arms: Sequence[Arm]) -> str:
    """Mean and half width of the 95 % interval over seeds, at equal steps, at equal compute, and minus the baseline."""
    baseline = next((arm for arm in arms if arm.name == plan.baseline), None)
    budget = budget_of(arms, plan.equal_compute)
    rows = [["metric", "arm", "equal steps", "sd", "n", f"equal compute ({budget / 1e12:.2f} TFLOP)"]]
    rows[0] += [f"minus {baseline.name}, seed by seed"] if baseline else []
    for metric in plan.metrics:
        for arm in arms:
            end = arm.equal_steps(metric)
            row = [metric, arm.name, shown(end), _number(end.sd), str(end.n), shown(arm.equal_compute(metric, budget))]
            if baseline:
                row.append("" if arm is baseline else _difference(arm.minus(baseline, metric)))
            rows.append(row)
    return _table(rows)


def runs(arms: Sequence[Arm]) -> str:
    """Run ids by arm, after the seed."""
    lines = (", ".join(f"{seed}: {cell.run_id}" for seed, cell in arm.cells.items()) for arm in arms)
    return "\n".join(f"- {arm.name}: {line}" for arm, line in zip(arms, lines, strict=True))


def shown(value: Estimate) -> str:
    """Mean and half width; the mean alone of a single run."""
    if value.n == 0:
        return "none"
    return _number(value.mean) if value.n == 1 else f"{_number(value.mean)} ± {_number(value.half_width)}"


def _difference(value: Estimate) -> str:
    """With a star where the interval leaves 0 out."""
    clear = value.n > 1 and abs(value.mean) > value.half_width
    return ("+" if value.mean > 0 else "") + shown(value) + (" *" if clear else "")


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _finished(arms: Sequence[Arm], name: str, seed: int) -> bool:
    return any(arm.name == name and seed in arm.cells for arm in arms)


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)
