"""Start: a background callback launches the detached trainer and reports until its first step or its failure.

The job may be killed at any moment (its page reloads, its server ends). It only starts and reports: from the moment
that the run directory exists, that directory is the truth.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State

from moe_hub import launch
from moe_hub.config import Config
from moe_hub.errors import ConfigError, MoeHubError, RunError
from moe_hub.runs.queue import RunQueue
from moe_hub.runs.status import FINAL_STATES
from moe_hub.runs.store import RunStore
from moe_hub.web import ids
from moe_hub.web.assessment import assess
from moe_hub.web.callbacks.configuration import field_values
from moe_hub.web.panels.configuration import FIRST_PRESET
from moe_hub.web.presets import PresetStore
from moe_hub.web.workbench import Workbench

POLL_S = 0.25
FIRST_STEP_TIMEOUT_S = 180.0
JOB_INTERVAL_MS = 1000
MOST_STARTING = 4

Report = Callable[[dict[str, Any]], None]


def register(app: Dash, workbench: Workbench, manager: Any) -> None:
    """The launch request, the background job and the state of the Start button."""
    app.clientside_callback(
        ClientsideFunction("moeHub", "requestLaunch"),
        Output(ids.LAUNCH_REQUEST, "data"),
        Input(ids.START, "n_clicks"),
        Input(ids.QUEUE, "n_clicks"),
        State(ids.ASSESSMENT, "data"),
        State(ids.LAUNCHING, "data"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        ClientsideFunction("moeHub", "launchable"),
        Output(ids.START, "disabled"),
        Output(ids.QUEUE, "disabled"),
        Input(ids.ASSESSMENT, "data"),
        Input(ids.LAUNCHING, "data"),
    )
    app.clientside_callback(
        ClientsideFunction("moeHub", "focusLaunched"),
        Output(ids.TICKED, "data", allow_duplicate=True),
        Input(ids.LAUNCH_PROGRESS, "data"),
        prevent_initial_call=True,
    )
    runs_dir, presets = workbench.runs_dir, workbench.presets

    @app.callback(
        output=Output(ids.LAUNCH_MESSAGE, "children"),
        inputs={
            "request": Input(ids.LAUNCH_REQUEST, "data"),
            "preset": State(ids.PRESET, "value"),
            "values": field_values(State),
        },
        background=True,
        manager=manager,
        progress=Output(ids.LAUNCH_PROGRESS, "data"),
        running=[(Output(ids.LAUNCHING, "data"), True, False)],
        interval=JOB_INTERVAL_MS,
        prevent_initial_call=True,
    )
    def launch_job(
        set_progress: Report, request: dict[str, Any] | None, preset: str | None, values: dict[str, Any]
    ) -> str:
        if not request:
            return ""
        try:
            config = form_config(presets, preset, values)
            if request.get("action") == "queue":
                return queue_and_report(runs_dir, config, set_progress)
            return start_and_report(runs_dir, config, set_progress)
        except MoeHubError as error:
            return str(error)
        except Exception as error:  # its traceback would go to the page, with paths
            return f"The run could not be started: {type(error).__name__}: {error}"


def form_config(presets: PresetStore, preset: str | None, values: dict[str, Any]) -> Config:
    """The config of the form; raises `ConfigError` where it is not valid."""
    base = presets.values(preset or FIRST_PRESET)
    result = assess(values, base)
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
