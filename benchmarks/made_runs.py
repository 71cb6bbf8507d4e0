"""Runs of any length for the parts that measure what shows them. Their values are made up and say nothing."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import orjson

from moe_hub.config import load_config
from moe_hub.runs.status import Status, process_identity, write_status
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.runs.writer import METRICS_FILE

SEVEN = (
    "train/loss", "loss/task", "optim/lr/base", "optim/grad_norm_total", "time/tokens_per_s", "time/active_s",
    "system/memory_mb",
)  # fmt: skip
TOKENS_A_STEP = 2048
AT_ONCE = 10_000
DIFFERENT_TABLES = 100  # of a run of tables: made once, then in turn


def new_run(runs_dir: Path, name: str, *overrides: str) -> RunDirectory:
    """A run with a config and no rows."""
    return RunStore(runs_dir).create(load_config(preset="geometric_lambda", overrides=[f"name={name}", *overrides]))


def set_state(run: RunDirectory, state: str, step: int) -> None:
    """Writes the status; a live state is that of this process."""
    identity = process_identity() if state == "running" else {}
    write_status(run.path, Status(state=state, step=step, max_steps=step, heartbeat=time.time(), **identity))


def write_scalars(
    run: RunDirectory,
    rows: int,
    names: tuple[str, ...] = SEVEN,
    *,
    seed: int = 0,
    spike: tuple[int, float] | None = None,
) -> None:
    """Rows of scalars near 1, steps from 0; `spike` puts one value into the first metric of one row."""
    rng = np.random.default_rng(seed)
    with (run.path / METRICS_FILE).open("wb") as file:
        for first in range(0, rows, AT_ONCE):
            values = (1 + 0.1 * rng.normal(size=(min(AT_ONCE, rows - first), len(names)))).round(6)
            if spike and first <= spike[0] < first + len(values):
                values[spike[0] - first, 0] = spike[1]
            for step, row in enumerate(values.tolist(), first):
                head = {"step": step, "time": 1e9 + step, "tokens": step * TOKENS_A_STEP}
                file.write(orjson.dumps(head | dict(zip(names, row, strict=True))) + b"\n")
    set_state(run, "finished", rows - 1)


def write_tables(run: RunDirectory, rows: int, layers: int, experts: int) -> None:
    """Rows with an `expert/load` of (layers, experts)."""
    rng = np.random.default_rng(0)
    loads = rng.dirichlet(np.full(experts, 4.0), (DIFFERENT_TABLES, layers)).round(5)
    texts = [orjson.dumps(load.tolist()) for load in loads]
    with (run.path / METRICS_FILE).open("wb") as file:
        for step in range(rows):
            head = b'{"step":%d,"time":%d,"tokens":%d,"expert/load":' % (step, 10**9 + step, step * TOKENS_A_STEP)
            file.write(head + texts[step % DIFFERENT_TABLES] + b"}\n")
    set_state(run, "finished", rows - 1)
