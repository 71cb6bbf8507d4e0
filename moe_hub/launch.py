"""Starts a trainer that outlives this process, and stops one safely: the only subprocesses of the package.

`start` runs this file as a short-lived starter (`python -m moe_hub.launch RUN_DIR`), which opens the trainer in its
own session with its output in log.txt and exits, so that the trainer's parent is init and nothing that happens to
the caller (a closed page, a killed server) reaches it. From then on the run directory is the truth.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from moe_hub.config import Config
from moe_hub.errors import RunError
from moe_hub.runs import control
from moe_hub.runs.status import LIVE_STATES, Status, is_local, local_process, read_status, state_of, write_status
from moe_hub.runs.store import LOG_FILE, RunDirectory, RunStore

STOP_STAGES = ("gone", "requested", "terminated", "killed")
STOP_PATIENCE_S = 20.0
LAUNCHED = "launched"  # reason of a `starting` status whose trainer was started and has not reported yet
_STARTER_TIMEOUT_S = 120.0


def launch_run(runs_dir: Path, config: Config, *, command: Sequence[str] | None = None) -> str:
    """Makes a run and starts its trainer; returns the run id. Raises `RunError`."""
    run = RunStore(runs_dir).create(config)
    start(run.path, command=command)
    return run.run_id


def start(run_dir: Path, *, resume: bool = False, command: Sequence[str] | None = None) -> None:
    """Starts the trainer of a run, detached; raises `RunError` where it runs already or cannot be started.

    With `resume` the trainer goes on from the last checkpoint. `command` replaces the trainer.
    """
    run_dir = Path(run_dir).resolve()
    _claim(run_dir, resume)
    arguments = [sys.executable, "-m", "moe_hub.launch", str(run_dir), *(["--resume"] if resume else [])]
    if command is not None:
        arguments += ["--", *command]
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(),
            timeout=_STARTER_TIMEOUT_S,
            check=False,
        )
        problem = done.stderr.decode("utf-8", errors="replace").strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        last = problem.splitlines()[-1]
        _report_failure(run_dir, last)
        raise RunError(f"run {run_dir.name}: the trainer cannot be started: {last}")


def escalate_stop(
    run_dir: Path,
    *,
    patience_s: float = STOP_PATIENCE_S,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Asks the trainer to stop, then sends SIGTERM, then SIGKILL, waiting `patience_s` between them.

    Returns the stage it took: `gone` (nothing ran), `requested`, `terminated` or `killed`.
    """
    if not _runs(run_dir):
        return "gone"
    control.request(run_dir, "stop")
    requested_at = now()
    reached = "requested"
    while True:
        stage = stop_stage(run_dir, requested_at, patience_s=patience_s, now=now)
        if stage == "gone":
            return reached
        reached = stage
        if now() - requested_at > 4 * patience_s + 1:
            raise RunError(f"run {run_dir.name}: the trainer is still there after SIGKILL")
        sleep(min(0.1, patience_s / 4))


def stop_stage(
    run_dir: Path,
    requested_at: float,
    *,
    patience_s: float = STOP_PATIENCE_S,
    now: Callable[[], float] = time.time,
) -> str:
    """What a stop requested at `requested_at` (unix s) has come to; sends the signal that is due. Does not wait.

    `gone`: the process ended. `requested`: it has `patience_s` to take the request. `terminated`: SIGTERM was
    sent, once, however often and from wherever this is called. `killed`: SIGKILL was sent to its process group.
    A trainer on another host gets no signal.
    """
    status = read_status(run_dir)
    if status is None or not _runs(run_dir):
        return "gone"
    waited = now() - requested_at
    process = local_process(status)
    if process is None or waited < patience_s:
        return "requested"
    first = _mark_terminated(run_dir, status)
    if first or waited < 2 * patience_s:
        if first:
            _signal(process.terminate)
        return "terminated"
    _kill_group(status, process)
    return "killed"


def _runs(run_dir: Path) -> bool:
    """Whether a process may still write the run: also one whose status is final but has not ended yet."""
    status = read_status(run_dir)
    if status is None:
        return False
    return (
        state_of(status) in LIVE_STATES if not is_local(status) or status.pid is None else bool(local_process(status))
    )


def _claim(run_dir: Path, resume: bool) -> None:
    """Marks the run as starting; refuses where a trainer runs, or was started a moment ago."""
    run = RunDirectory(run_dir)
    if not run_dir.is_dir():
        raise RunError(f"run {run.run_id} is not in {run_dir.parent}")
    with run.lock():
        status = run.status() or Status(state="interrupted")
        state = state_of(status)
        fresh = status.state == "starting" and status.pid is None and status.reason != LAUNCHED
        if state in LIVE_STATES and not fresh:
            raise RunError(f"run {run.run_id} is {state} already; stop it before it is started again")
        if resume and state == "finished":
            raise RunError(f"run {run.run_id} is finished; fork it to train on")
        write_status(
            run_dir,
            replace(
                status, state="starting", reason=LAUNCHED, exit_reason="", heartbeat=time.time(),
                pid=None, process_create_time=None, boot_id="", host="",
            ),
        )  # fmt: skip
        control.take(run_dir)  # requests to the trainer before


def _report_failure(run_dir: Path, problem: str) -> None:
    status = read_status(run_dir)
    if status is not None and status.state == "starting" and status.pid is None:
        with contextlib.suppress(OSError):
            write_status(run_dir, replace(status, state="failed", reason="", exit_reason=problem))


def _environment() -> dict[str, str]:
    """The environment, in which the starter and the trainer find this package also in a checkout."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    root = Path(__file__).resolve().parent.parent
    if root.name not in ("site-packages", "dist-packages"):
        known = environment.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{known}" if known else str(root)
    return environment


def _mark_terminated(run_dir: Path, status: Status) -> bool:
    """True for the one caller that is to send SIGTERM to this process."""
    mark = run_dir / control.CONTROL_FOLDER / f".terminated-{status.pid}-{status.process_create_time}"
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:  # a full disk: better two signals than none
        return True
    return True


def _kill_group(status: Status, process: psutil.Process) -> None:
    """SIGKILL to the trainer, its process group if it leads one, and its descendants in other groups."""
    try:
        descendants = process.children(recursive=True)
    except psutil.Error:
        descendants = []
    if local_process(status) is None:
        return
    with contextlib.suppress(OSError):
        if os.getpgid(process.pid) == process.pid != os.getpgrp():
            os.killpg(process.pid, signal.SIGKILL)
    for each in (process, *descendants):
        _signal(each.kill)  # psutil compares the create time first


def _signal(send: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.Error, OSError):
        send()


def _open_trainer(run_dir: Path, resume: bool, command: Sequence[str]) -> None:
    flag = "--resume" if resume else "--adopt"
    trainer = [sys.executable, "-m", "moe_hub.train", "--runs-dir", str(run_dir.parent), flag, run_dir.name]
    with (run_dir / LOG_FILE).open("ab") as log:
        process = subprocess.Popen(
            list(command) or trainer,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            close_fds=True,
        )
    process.returncode = 0  # never waited for: silences the warning that it still runs


def main(arguments: Sequence[str] | None = None) -> int:
    """The starter: opens the trainer and returns at once."""
    parser = argparse.ArgumentParser(prog="python -m moe_hub.launch", description="Starts the trainer of a run.")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("command", nargs="*", help="another program instead of the trainer")
    options = parser.parse_args(arguments)
    try:
        _open_trainer(options.run_dir, options.resume, options.command)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
