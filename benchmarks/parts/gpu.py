"""Steps on one GPU at d 1024, E 8, T 1024: MFU, Mixtral with each of its backends, a dense model of topk's active size.

Times are of CUDA events around a whole step (forward, backward, clip, update), contenders in turn. MFU: useful
operations (benchmarks/flops.py) over those of the fastest square bf16 product of the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch

from benchmarks.flops import flops_per_step, layer_flops
from benchmarks.mixtral import expert_implementations, mixtral_step
from benchmarks.options import Options
from benchmarks.report import PartResult, Table
from benchmarks.training_step import Shape, new_step

SHAPE = Shape(d_model=1024, layers=4, heads=16, experts=8, batch=8, length=1024, vocab=8192)
STEPS: dict[str, dict[str, Any]] = {
    "hgnn": {"model.architecture": "hgnn"},
    "geometric": {"model.architecture": "geometric"},
    "ghost": {"model.architecture": "ghost"},
    "topk swiglu": {"model.architecture": "topk", "model.topk.top_k": 2, "model.topk.activation": "swiglu"},
}
GEMM = (4096, 8192)
WARM_UP, MOST_LAYERS = 4, 64
GIB = 1 << 30


def run(options: Options) -> PartResult:
    """A table of step times, MFU and memory; an empty one with a note where there is no GPU."""
    result = PartResult()
    if not torch.cuda.is_available():
        result.notes.append("no GPU on this machine: nothing was measured")
        return result
    device = torch.device("cuda")
    result.data["device"] = torch.cuda.get_device_name(device)
    peak = max(_gemm_flops_per_s(size, device) for size in GEMM)
    rows, milliseconds = [], {}
    for name, build in _contenders(device).items():
        try:
            step, flops, parameters = build()
            times, memory = _timed(step, options.rounds(10), device)
        except (RuntimeError, ImportError, ValueError, torch.OutOfMemoryError) as error:  # a backend not built here
            result.notes.append(f"{name}: {str(error).splitlines()[0][:160]}")
            continue
        milliseconds[name] = times
        share = f"{100 * flops / (1e-3 * median(times)) / peak:.1f}" if flops else ""
        tokens = SHAPE.batch * SHAPE.length / (1e-3 * median(times))
        rows.append((
            name, f"{parameters / 1e6:.0f} M", f"{min(times):.1f} / {median(times):.1f}", f"{tokens:,.0f}", share,
            f"{memory / GIB:.1f}",
        ))  # fmt: skip
        del step
        torch.cuda.empty_cache()
    result.data |= {"ms": milliseconds, "gemm_tflops": peak / 1e12}
    columns = ("step", "parameters", "ms min / median", "tokens/s", "MFU, % of the GEMM peak", "peak memory, GiB")
    title = (
        f"{result.data['device']}: d {SHAPE.d_model}, {SHAPE.layers} layers, E {SHAPE.experts}, B {SHAPE.batch}, "
        f"T {SHAPE.length}, V {SHAPE.vocab}, bf16"
    )
    result.tables.append(Table(title, columns, rows))
    result.notes.append(f"fastest square bf16 product: {peak / 1e12:.0f} TFLOP/s")
    return result


Build = Callable[[], tuple[Callable[[], None], int, int]]


def _contenders(device: torch.device) -> dict[str, Build]:
    """Each with its step, useful operations (0: not counted) and parameters; built one after the other."""
    found: dict[str, Build] = {}
    for name, overrides in STEPS.items():
        found[name] = partial(_ours, overrides, device)
        found[f"{name}, torch.compile"] = partial(_ours, overrides, device, compiled=True)
    dense = {"model.architecture": "dense", "model.num_layers": _layers_of_same_work()}
    found["dense of topk's active size"] = partial(_ours, dense, device)
    for backend in expert_implementations(device):
        found[f"Mixtral {backend}"] = partial(_mixtral, backend, device)
    return found


def _ours(
    overrides: dict[str, Any], device: torch.device, *, compiled: bool = False
) -> tuple[Callable[[], None], int, int]:
    step = new_step(overrides["model.architecture"], overrides, SHAPE, "bf16", device)
    if compiled:
        step.model = torch.compile(step.model)
    flops = flops_per_step(step.config.model, SHAPE.batch, SHAPE.length, SHAPE.vocab)
    return step, flops, sum(parameter.numel() for parameter in step.model.parameters())


def _mixtral(backend: str, device: torch.device) -> tuple[Callable[[], None], int, int]:
    step, parameters = mixtral_step(SHAPE, backend, "sdpa", "bf16", device)
    return step, 0, parameters


def _layers_of_same_work() -> int:
    """Layers of a dense model whose operations a token come nearest to those of topk at this shape."""
    sparse = SHAPE.config("topk", STEPS["topk swiglu"]).model
    dense = SHAPE.config("dense").model
    goal = SHAPE.layers * layer_flops(sparse, SHAPE.length)
    one = layer_flops(dense, SHAPE.length)
    return min(range(1, MOST_LAYERS), key=lambda layers: abs(layers * one - goal))


def _timed(step: Callable[[], object], count: int, device: torch.device) -> tuple[list[float], int]:
    """Milliseconds of each of `count` steps after warming up, and the peak of allocated bytes."""
    torch.cuda.reset_peak_memory_stats(device)
    for _ in range(WARM_UP):
        step()
    torch.cuda.synchronize(device)
    times = []
    for _ in range(count):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        step()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return times, torch.cuda.max_memory_allocated(device)


def _gemm_flops_per_s(size: int, device: torch.device) -> float:
    one = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    times, _ = _timed(lambda: torch.mm(one, one), 20, device)
    return 2 * size**3 / (1e-3 * min(times))
