"""From what a form holds to a run: started detached and followed to its first step, or queued."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moe_hub import launch
from moe_hub.config import Config
from moe_hub.errors import ConfigError, RunError
from moe_hub.runs.queue import RunQueue
from moe_hub.runs.status import FINAL_STATES
from moe_hub.runs.store import RunStore
from moe_hub.workbench.assessment import Refused, assess
from moe_hub.workbench.presets import FIRST_PRESET, PresetStore

POLL_S = 0.25
FIRST_STEP_TIMEOUT_S = 180.0
MOST_STARTING = 4

Report = Callable[[dict[str, Any]], None]


def form_config(
    presets: PresetStore, preset: str | None, values: Mapping[str, Any], refused: Refused = lambda config: {}
) -> Config:
    """The config of the form; raises `ConfigError` where it is not valid, or not allowed by `refused`."""
    base = presets.values(preset or FIRST_PRESET)
    result = assess(values, base, refused)
    if result.config is not None and not result.errors:
        return result.config
    raise ConfigError("; ".join(f"{path}: {message}" for path, message in result.errors.items()))


def refuse_crowd(runs_dir: Path) -> None:
    """Raises `RunError` where several runs are just starting: each of them loads its data and its model."""
    starting = sum(summary.state == "starting" for summary in RunStore(runs_dir).list())
    if starting >= MOST_STARTING:
        raise RunError(f"{starting} runs are starting already; wait until one has made its first step, or use Queue")


def queue_and_report(runs_dir: Path, config: Config, report: Report) -> str:
    """Puts the config at the end of the queue, frozen as it is now, and says at which place it stands."""
    run_id = launch.enqueue(runs_dir, config)
    report({"run_id": run_id, "stage": "queued"})
    waiting = RunQueue(runs_dir).waiting()
    if run_id not in waiting:
        return "Nothing was waiting, so it starts now."
    return f"Queued: number {waiting.index(run_id) + 1} of {len(waiting)}."


def start_and_report(runs_dir: Path, config: Config, report: Report, *, timeout_s: float = FIRST_STEP_TIMEOUT_S) -> str:
    """Launches the trainer, reports its run id, and returns what became of its start: for the status line."""
    refuse_crowd(runs_dir)
    run_id = launch.launch_run(runs_dir, config)
    report({"run_id": run_id, "stage": "starting"})
    run = RunStore(runs_dir).open(run_id)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        status = run.status()
        state = run.state()
        if state in FINAL_STATES:
            failed = state in ("failed", "interrupted")
            why = f": {status.exit_reason}" if failed and status and status.exit_reason else ""
            return f"{run_id} {'did not start' if failed else state}{why}"
        if status is not None and status.step > 0:
            return ""
        time.sleep(POLL_S)
    return f"{run_id} has made no step in {timeout_s:.0f} s; its log says what it is doing"
