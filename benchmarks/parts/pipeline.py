"""Data loading and the run writer, in units of the preset's training step."""

from __future__ import annotations

from benchmarks.options import Options
from benchmarks.report import PartResult, Table
from benchmarks.timing import Contender, measure

PRESET = "geometric_lambda"
STEP = f"training step of {PRESET}"


def run(options: Options) -> PartResult:
    """CPU time of a batch and of a metric row, and their share of a step."""
    contenders = [
        Contender(STEP, "benchmarks.pipeline_steps:build_step", {"preset": PRESET}),
        Contender("one training batch", "benchmarks.pipeline_steps:build_batch", {"preset": PRESET}),
        Contender("one metric row", "benchmarks.pipeline_steps:build_row"),
    ]
    timings = measure(contenders, rounds=options.rounds(10), steps=5, budget_s=options.budget_s(30), calls=("close",))
    rows = []
    for name, values in timings.cpu_s.items():
        ratio = timings.ratio(name, STEP)
        rows.append((name, f"{1e3 * min(values):.3f}", f"{100 * ratio.median:.2f} %"))
    result = PartResult(data=timings.as_json())
    result.tables.append(Table("Beside the model", ("work", "CPU ms, min", "share of a step"), rows))
    return result
