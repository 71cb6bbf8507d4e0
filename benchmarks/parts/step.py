"""Part 1: one training step of hgnn, ghost and geometric against the plain implementations."""

from __future__ import annotations

from typing import Any

from benchmarks.options import Options
from benchmarks.report import Goal, PartResult, Table, milliseconds, times
from benchmarks.timing import Contender, measure

SHIPPED_DROPOUT = 0.1
ARCHITECTURES: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {  # our overrides; the first implementation's
    "hgnn": ({}, {"experts": 8}),
    "ghost": ({"model.num_experts": 4, "model.ghost.num_ghosts": 4}, {"experts": 4, "ghosts": 4}),
    "geometric": ({}, None),  # its training never applied a rotation
}
OURS, FP32, NAIVE = "moe_hub", "moe_hub fp32", "naive"
FIRST, SHIPPED = "first implementation", "first implementation, its dropout"
GOAL = 5.0


def run(options: Options) -> PartResult:
    """Tables of ratios for each architecture; the goal is set for hgnn."""
    result = PartResult()
    rows: list[tuple[str, ...]] = []
    for architecture in ARCHITECTURES:
        _one_architecture(architecture, options, result, rows)
    columns = ("architecture", "step", "CPU ms min / median", f"in units of {OURS}, median [95 %]", "of minima")
    result.tables.append(Table("Training step, d 128, 2 layers, B 8, T 128, V 512, one thread", columns, rows))
    result.notes.append(
        "naive: the same function as moe_hub's to rounding (tests/benchmarks), fp32; first implementation: its own "
        "function, written anew, fp32, without dropout (as all others here) and with the 0.1 that it shipped with; "
        "both references with malloc as glibc has it"
    )
    return result


def _one_architecture(architecture: str, options: Options, result: PartResult, rows: list[tuple[str, ...]]) -> None:
    timings = measure(_contenders(architecture), rounds=options.rounds(12), steps=2, budget_s=options.budget_s(40))
    result.data[architecture] = timings.as_json()
    for name, values in timings.cpu_s.items():
        ratio = timings.ratio(name, OURS)
        rows.append((architecture, name, milliseconds(values), times(ratio), f"{ratio.of_minima:.2f}x"))
    if architecture == "hgnn":
        for name in (NAIVE, FIRST, SHIPPED):
            ratio = timings.ratio(name, OURS)
            text = f"hgnn E=8 step, {name} over {OURS}"
            result.goals.append(Goal(text, ratio.median, GOAL, "at least", ratio.low, ratio.high))


def _contenders(architecture: str) -> list[Contender]:
    overrides, first = ARCHITECTURES[architecture]
    ours = {"architecture": architecture, "overrides": overrides}
    contenders = [
        Contender(OURS, "benchmarks.training_step:build", ours),
        Contender(FP32, "benchmarks.training_step:build", {**ours, "precision": "fp32"}),
        Contender(NAIVE, "benchmarks.plain_step:build_naive", ours, keep_memory=False),
    ]
    for name, dropout in ((FIRST, 0.0), (SHIPPED, SHIPPED_DROPOUT)):
        if first is not None:
            arguments = {**first, "dropout": dropout}
            contenders.append(Contender(name, "benchmarks.plain_step:build_first", arguments, keep_memory=False))
    return contenders
