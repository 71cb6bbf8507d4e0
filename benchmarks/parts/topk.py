"""Part 3: topk against transformers' Mixtral at the same shape, with every implementation of its experts."""

from __future__ import annotations

from statistics import median

from benchmarks.mixtral import expert_implementations
from benchmarks.options import Options
from benchmarks.report import Goal, PartResult, Table, milliseconds, times
from benchmarks.timing import Contender, Timings, measure

OURS = "topk swiglu"
SLOW = ("batched_mm",)  # copies the weights of its experts for every token: seconds a step
# The rows of an expert change with each batch, and BLAS makes a kernel for each new shape in bf16 (0.5 ms): in training
# that is over after some dozens of steps, so it is left out here, for all.
WARM_UP = 25
VARIANTS = (("fp32", "sdpa"), ("bf16", "sdpa"), ("bf16", "eager"))


def run(options: Options) -> PartResult:
    """Steps in units of topk's; the goal is set against the fastest Mixtral."""
    result = PartResult()
    rows: list[tuple[str, ...]] = []
    for experts in (8, 16):
        timings = measure(
            _contenders(experts), rounds=options.rounds(12), steps=2, budget_s=options.budget_s(35), warm_up=WARM_UP
        )
        result.data[f"E {experts}"] = timings.as_json()
        rows += [_row(experts, name, timings) for name in timings.cpu_s]
        if experts == 8:
            result.goals.append(_goal(timings))
    slow = [_ours("swiglu", 8), *(_mixtral(name, "bf16", "eager", 8) for name in SLOW)]
    timings = measure(slow, rounds=3, steps=1, warm_up=1)
    result.data["slow"] = timings.as_json()
    rows += [_row(8, name, timings) for name in timings.cpu_s if name != OURS]
    columns = ("experts", "step", "parameters", "CPU ms min / median", f"in units of {OURS}, median [95 %]")
    result.tables.append(Table("Top-2 training step, d 128, 2 layers, B 8, T 128, V 512, one thread", columns, rows))
    result.notes.append(
        "Mixtral: name of experts_implementation, precision, attention; its experts have the hidden width of topk "
        "swiglu's; both with tied head, load-balance loss, fused AdamW, the trainer's malloc setting"
    )
    return result


def _goal(timings: Timings) -> Goal:
    rivals = [name for name in timings.cpu_s if name.startswith("Mixtral")]
    best = min(rivals, key=lambda name: median(timings.cpu_s[name]))
    ratio = timings.ratio(best, OURS)
    return Goal(f"best Mixtral ({best}) over {OURS}", ratio.median, 1.3, "at least", ratio.low, ratio.high)


def _ours(activation: str, experts: int, precision: str = "auto") -> Contender:
    overrides = {"model.topk.activation": activation, "model.topk.top_k": 2, "model.num_experts": experts}
    name = f"topk {activation}" if precision == "auto" else f"topk {activation} {precision}"
    step = {"architecture": "topk", "overrides": overrides, "precision": precision}
    return Contender(name, "benchmarks.training_step:build", step)


def _mixtral(name: str, precision: str, attention: str, experts: int) -> Contender:
    step = {"experts": name, "attention": attention, "precision": precision, "num_experts": experts}
    return Contender(f"Mixtral {name} {precision} {attention}", "benchmarks.mixtral:build_mixtral", step)


def _contenders(experts: int) -> list[Contender]:
    ours = [_ours("swiglu", experts), _ours("relu2", experts), _ours("swiglu", experts, "fp32")]
    fast = [name for name in expert_implementations() if name not in SLOW]
    return ours + [_mixtral(name, *variant, experts) for name in fast for variant in VARIANTS]


def _row(experts: int, name: str, timings: Timings) -> tuple[str, ...]:
    parameters = f"{timings.facts[name]['parameters'] / 1e6:.2f} M"
    return str(experts), name, parameters, milliseconds(timings.cpu_s[name]), times(timings.ratio(name, OURS))
