"""What the numbers were measured on, and the speed of its matrix products: the unit of every share of the peak."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import Built, Contender

GEMM_SIZES = (512, 1024)


def cpu_model() -> str:
    """The processor as lscpu names it, with the bf16 instructions that it has."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = values.get("model name") or platform.processor() or platform.machine()
    family = f", family {values['cpu family']} model {values['model']}" if "cpu family" in values else ""
    bf16 = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in values.get("flags", "").split()]
    return f"{name}{family} ({', '.join(bf16) or 'no native bf16'})"


def facts() -> dict[str, Any]:
    """Processor, cores, memory, load, versions and commit."""
    import transformers

    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "load_1_5_15_min": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "commit": _commit(),
    }


def _commit() -> str:
    root = Path(__file__).resolve().parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=8"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def build_gemm(precision: str, size: int) -> Built:
    """A square product that fills the caches as a trainer's products do; `flops` is the work of one step."""
    generator = torch.Generator().manual_seed(0)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    a = torch.randn(size, size, generator=generator).to(dtype)
    b = torch.randn(size, size, generator=generator).to(dtype)
    out = torch.empty(size, size, dtype=dtype)
    repeats = max(1, 2**31 // (2 * size**3))  # about 2 GFLOP a step, so that a block is long enough to be timed

    def step() -> None:
        for _ in range(repeats):
            torch.mm(a, b, out=out)

    return Built(step, {"flops": 2 * size**3 * repeats})


def gemm_contenders(precision: str, threads: int = 1) -> list[Contender]:
    """The calibration loop of one precision: one worker for each size."""
    return [
        Contender(f"GEMM {precision} {size}", "benchmarks.machine:build_gemm", {"precision": precision, "size": size},
                  threads=threads)
        for size in GEMM_SIZES
    ]  # fmt: skip
