"""Throughput of one process and of two, with one thread each, on the same global batch."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.options import Options
from benchmarks.report import PartResult, Table

ARCHITECTURES = ("hgnn", "topk")
PROCESSES = 2
STEPS = 4
TIMEOUT_S = 1800


def run(options: Options) -> PartResult:
    """Starts torchrun once; the arms take turns inside."""
    rounds = options.rounds(6)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "processes.json"
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES)]
        command = [sys.executable, *launcher, "-m", "benchmarks.processes", str(out), str(rounds), str(STEPS)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MOE_HUB_DATA": str(Path(folder) / "data")}
        subprocess.run([*command, *ARCHITECTURES], env=environment, timeout=TIMEOUT_S, check=True)
        found: dict[str, dict[str, list[dict[str, float]]]] = json.loads(out.read_text(encoding="utf-8"))
    rows = [row for architecture, arms in found.items() for row in _rows(architecture, arms)]
    columns = ("architecture", "processes", "tokens/s", "against one", "efficiency", "CPU ms a step", "CPU against one")
    title = (
        f"1 against {PROCESSES} processes, one thread each, 16 rows of 128 tokens in all (d 128, 2 layers, 8 experts)"
    )
    cores, load = os.cpu_count(), os.getloadavg()[0]
    return PartResult(
        tables=[Table(title, columns, rows)],
        notes=[
            f"median over {rounds} turns of {STEPS} steps each, within one group of processes; efficiency is tokens/s "
            f"against one process, divided by {PROCESSES}; {cores} cores, load {load:.1f} at the end. Above a load of "
            f"{cores} minus {PROCESSES} the processes compete with others for the cores; what the CPU columns say "
            "depends on that much less"
        ],
        data={"turns": found},
    )


def _rows(architecture: str, arms: dict[str, list[dict[str, float]]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for arm, turns in arms.items():
        speed = statistics.median(turn["tokens"] / turn["wall_s"] for turn in turns)
        cpu_ms = statistics.median(turn["cpu_s"] / STEPS * 1e3 for turn in turns)
        # Ratios of neighbouring turns, which had the same load.
        gain = statistics.median(
            (turn["tokens"] / turn["wall_s"]) / (one["tokens"] / one["wall_s"])
            for turn, one in zip(turns, arms["alone"], strict=True)
        )
        cost = statistics.median(turn["cpu_s"] / one["cpu_s"] for turn, one in zip(turns, arms["alone"], strict=True))
        count = 1 if arm == "alone" else PROCESSES
        name = "1" if arm == "alone" else f"{PROCESSES}, {arm}"
        rows.append(
            (architecture, name, f"{speed:,.0f}", f"{gain:.2f}", f"{gain / count:.0%}", f"{cpu_ms:.0f}", f"{cost:.2f}")
        )
    return rows
