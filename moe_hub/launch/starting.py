"""Starts the trainer of a run, detached."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from moe_hub.config import Config
from moe_hub.errors import RunError
from moe_hub.runs import control
from moe_hub.runs.files import remove_leftovers
from moe_hub.runs.status import LIVE_STATES, NO_PROCESS, Status, read_status, state_of, write_status
from moe_hub.runs.store import BRIEFLY_S, LOG_FILE, RunDirectory, RunStore

RUN_DIR_VARIABLE = "MOE_HUB_RUN_DIR"  # in the environment of a trainer and of all that it starts
_KEPT_BACK = ("MOE_HUB_TOKEN",)  # what opens the page is no business of a trainer
_STARTER_TIMEOUT_S = 60.0


def launch_run(runs_dir: Path, config: Config, *, command: Sequence[str] | None = None) -> str:
    """Makes a run and starts its trainer; returns the run id. Raises `RunError`."""
    run = RunStore(runs_dir).create(config)
    start(run.path, command=command)
    return run.run_id


def start(
    run_dir: Path, *, resume: bool = False, command: Sequence[str] | None = None, only_queued: bool = False
) -> None:
    """Starts the trainer of a run and returns; raises `RunError` where it runs already or cannot be started.

    A new or queued run begins; with `resume` a run that has ended before its last step goes on from its last
    checkpoint. `command` replaces the trainer. `only_queued` refuses a run that has left the queue.
    """
    run = RunDirectory(Path(run_dir).resolve())
    launch_id = _claim(run, resume=resume, only_queued=only_queued)
    trainer = [python(), "-m", "moe_hub.train", "--runs-dir", str(run.path.parent)]
    trainer += ["--resume" if resume else "--adopt", run.run_id]
    problem = detach(
        command or trainer, run.path / LOG_FILE, run_dir=run.path, launch_id=launch_id,
        variables={RUN_DIR_VARIABLE: str(run.path)},
    )  # fmt: skip
    if problem:
        _report_failure(run.path, launch_id, problem)
        raise RunError(f"run {run.run_id}: the trainer cannot be started: {problem}")


def detach(
    command: Sequence[str],
    log_file: Path,
    *,
    run_dir: Path | None = None,
    launch_id: str = "",
    variables: Mapping[str, str] | None = None,
) -> str:
    """Opens a program that is no child of this process, through a starter; returns what went wrong, or nothing."""
    arguments = [python(), "-m", "moe_hub.starter", str(log_file), str(run_dir or ""), launch_id, *command]
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**_environment(), **(variables or {})},
            timeout=_STARTER_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode("utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"the starter ended with exit code {done.returncode}"


def python() -> str:
    """The interpreter of this environment, also inside a web server that is itself the executable (uWSGI, mod_wsgi)."""
    if "python" in Path(sys.executable or "").name.lower():
        return sys.executable
    return str(Path(sys.prefix) / "bin" / "python3")


def _claim(run: RunDirectory, *, resume: bool, only_queued: bool) -> str:
    """Marks the run as starting and returns the id of this launch; of several claims one succeeds."""
    if not run.path.is_dir():
        raise RunError(f"run {run.run_id} is not in {run.path.parent}; list the runs to see their ids")
    _refuse(run, run.status(), resume=resume, only_queued=only_queued)  # first without the lock: it says more
    launch_id = secrets.token_hex(8)
    with run.lock(BRIEFLY_S):
        status = run.status() or Status(state="interrupted")
        _refuse(run, status, resume=resume, only_queued=only_queued)
        claimed = replace(
            status,
            state="starting",
            reason="",
            exit_reason="",
            failure={},
            heartbeat=time.time(),
            launch_id=launch_id,
            **NO_PROCESS,
        )
        try:
            write_status(run.path, claimed)
        except OSError as error:
            raise RunError(f"run {run.run_id}: its status cannot be written: {error.strerror or error}") from None
        control.take(run.path)  # requests to the trainer before
        for folder in (run.path, run.path / control.CONTROL_FOLDER):
            remove_leftovers(folder)
    return launch_id


def _refuse(run: RunDirectory, status: Status | None, *, resume: bool, only_queued: bool) -> None:
    state = state_of(status)
    new = status is not None and status.state == "starting" and status.pid is None and not status.launch_id
    if only_queued and state != "queued":
        raise RunError(f"run {run.run_id} is {state} and waits no longer")
    if state == "queued" or new:
        return
    if state in LIVE_STATES:
        raise RunError(f"run {run.run_id} is {state} already; stop it before it is started again")
    if state == "finished":
        raise RunError(f"run {run.run_id} is finished; fork it to train on")
    if not resume:
        raise RunError(f"run {run.run_id} is {state}; resume it instead")


def _report_failure(run_dir: Path, launch_id: str, problem: str) -> None:
    """Writes `failed` into the status, unless another launch has taken the run since."""
    status = read_status(run_dir)
    if status is not None and (status.state, status.launch_id) == ("starting", launch_id):
        with contextlib.suppress(OSError):
            cause = f"the trainer cannot be started: {problem}"
            failure = {"kind": "run", "cause": cause, "advice": "Mend what it names, then start again", "log": ""}
            failed = replace(status, state="failed", exit_reason=cause, failure=failure, **NO_PROCESS)
            write_status(run_dir, failed)


def _environment() -> dict[str, str]:
    """The environment, in which the starter and the trainer find this package also in a checkout."""
    environment = {name: value for name, value in os.environ.items() if name not in _KEPT_BACK}
    environment["PYTHONUNBUFFERED"] = "1"
    root = Path(__file__).resolve().parents[2]
    if root.name not in ("site-packages", "dist-packages"):
        known = environment.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{known}" if known else str(root)
    return environment
