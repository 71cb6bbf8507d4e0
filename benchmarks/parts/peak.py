"""Part 4: the share of the machine's matrix-product speed that a training step reaches (MFU), on one thread and two."""

from __future__ import annotations

import os
from statistics import median

from benchmarks.machine import gemm_contenders
from benchmarks.options import Options
from benchmarks.report import Goal, PartResult, Table, milliseconds
from benchmarks.timing import Contender, Timings, measure

ARCHITECTURES = ("dense", "gnn", "hgnn", "orthogonal", "geometric")
GOAL = 57.0
# One process of this part is itself always at work. Above this, two threads wait for each other in turn with others'
# processes: steps of seconds that say nothing.
BUSY = 1.5


def run(options: Options) -> PartResult:
    """Achieved GFLOP/s and shares of the peak of the same run."""
    result = PartResult()
    rows: list[tuple[str, ...]] = []
    one = _measure(ARCHITECTURES, 1, options)
    rows += _rows(one, 1, "cpu", result)
    load = os.getloadavg()[0]
    if (os.cpu_count() or 1) < 2 or load > BUSY:
        result.notes.append(
            f"two threads left out: {os.cpu_count()} cores, load {load:.1f}; they need a machine at rest"
        )
    else:
        two = _measure(("hgnn", "geometric"), 2, options)
        rows += _rows(two, 2, "wall", result)
        result.data["two_threads"] = two.as_json()
    result.data["one_thread"] = one.as_json()
    columns = ("threads", "step or product", "clock", "ms min / median", "GFLOP/s", "share of peak, %")
    result.tables.append(Table("Model FLOP utilisation: E 8, d 128, 2 layers, B 8, T 128, V 512", columns, rows))
    result.notes.append(
        "useful operations as in PaLM, appendix B (benchmarks/flops.py); peak: the fastest square product of the same "
        "rounds in the same precision; one thread: median CPU time; two threads: least wall time"
    )
    return result


def _measure(architectures: tuple[str, ...], threads: int, options: Options) -> Timings:
    contenders = [*gemm_contenders("bf16", threads), *gemm_contenders("fp32", threads)]
    for architecture in architectures:
        step = {"architecture": architecture}
        contenders.append(Contender(architecture, "benchmarks.training_step:build", step, threads))
    step = {"architecture": "hgnn", "precision": "fp32"}
    contenders.append(Contender("hgnn fp32", "benchmarks.training_step:build", step, threads))
    return measure(contenders, rounds=options.rounds(10), steps=2, budget_s=options.budget_s(40))


def _rows(timings: Timings, threads: int, clock: str, result: PartResult) -> list[tuple[str, ...]]:
    seconds = timings.cpu_s if clock == "cpu" else timings.wall_s
    middle = median if clock == "cpu" else min  # of a wall clock on a shared machine only the best moment says anything
    speeds = {name: timings.facts[name]["flops"] / middle(values) / 1e9 for name, values in seconds.items()}
    peak = {
        precision: max(speed for name, speed in speeds.items() if name.startswith(f"GEMM {precision}"))
        for precision in ("fp32", "bf16")
    }
    rows: list[tuple[str, ...]] = []
    for name, values in seconds.items():
        precision = name.split()[1] if name.startswith("GEMM") else timings.facts[name]["precision"]
        share = 100 * speeds[name] / peak[precision]
        rows.append(
            (str(threads), name, clock, milliseconds(values), f"{speeds[name]:.0f}", f"{share:.1f} of {precision}")
        )
        if name == "hgnn" and threads == 1:
            result.goals.append(Goal("hgnn E=8 share of the bf16 GEMM peak, %", share, GOAL, "at least"))
    return rows
