"""Stops a trainer: a request first, then SIGTERM, then SIGKILL to its group. No signal ever reaches a stranger."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from moe_hub.errors import RunError
from moe_hub.launch.ending import interrupted
from moe_hub.launch.starting import RUN_DIR_VARIABLE
from moe_hub.runs import control
from moe_hub.runs.files import read_regular, replace_file
from moe_hub.runs.status import (
    FINAL_STATES,
    LIVE_STATES,
    Status,
    boot_id,
    is_local,
    local_process,
    read_status,
    state_of,
    write_status,
)
from moe_hub.runs.store import RunDirectory

STOP_STAGES = ("gone", "requested", "terminated", "killed")
STOP_PATIENCE_S = 20.0
# A trainer that has taken the request writes its last checkpoint, which may take long: SIGKILL waits longer then.
SAVING_FACTOR = 15


def escalate_stop(
    run_dir: Path,
    *,
    patience_s: float = STOP_PATIENCE_S,
    on_stage: Callable[[str], None] = lambda stage: None,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Asks the trainer to stop, then sends SIGTERM, then SIGKILL, waiting `patience_s` between them.

    Returns the last stage that was needed: `gone` (nothing ran), `requested`, `terminated` or `killed`. `on_stage`
    hears of each. Raises `RunError` where a process is still there at the end.
    """
    if not runs(run_dir):
        return "gone"
    control.request(run_dir, "stop")
    begun, requested_at = time.monotonic(), time.time()
    reached = ""
    while (stage := stop_stage(run_dir, requested_at, patience_s=patience_s)) != "gone":
        if stage != reached:
            reached = stage
            on_stage(stage)
        if time.monotonic() - begun > (SAVING_FACTOR + 4) * patience_s + 5:
            raise RunError(f"run {run_dir.name}: the trainer is still there; stop it on its own host")
        sleep(min(0.1, patience_s / 4))
    return reached or "requested"


def stop_stage(run_dir: Path, requested_at: float, *, patience_s: float = STOP_PATIENCE_S) -> str:
    """What a stop requested at `requested_at` (unix s) has come to; sends the signal that is due. Does not wait.

    `gone`: the process ended. `requested`: it has `patience_s` to take the request. `terminated`: SIGTERM was
    sent, once, however often and from wherever this is called. `killed`: SIGKILL was sent to its process group,
    `patience_s` after SIGTERM by a clock that nobody can set. A trainer on another host gets no signal.
    """
    status = read_status(run_dir)
    if status is None or not runs(run_dir):
        if status is not None:
            _settle(run_dir, status)
        return "gone"
    process = local_process(status)
    waited = time.time() - requested_at
    if process is None or 0 <= waited < patience_s:  # less than nothing: the clock was set back, so it is due
        return "requested"
    since = _terminated_since(run_dir, status)
    if since is None:
        _mark_terminated(run_dir, status)
        _signal(process.terminate)
        return "terminated"
    saving = status.state == "stopping"
    ending = status.state in FINAL_STATES and abs(time.time() - status.heartbeat) < patience_s  # said it just now
    if ending or since < patience_s * (SAVING_FACTOR if saving else 1):
        return "terminated"
    _kill_group(status, process)
    return "killed"


def runs(run_dir: Path) -> bool:
    """Whether a process may still write the run: also one whose status is final but has not ended yet."""
    status = read_status(run_dir)
    if status is None:
        return False
    if is_local(status) and status.pid is not None:
        return local_process(status) is not None
    return state_of(status) in LIVE_STATES


def _mark(run_dir: Path, status: Status) -> Path:
    return run_dir / control.CONTROL_FOLDER / f".terminated-{status.pid}-{status.process_start_s}"


def _mark_terminated(run_dir: Path, status: Status) -> None:
    with contextlib.suppress(OSError):  # on a full disk the next call sends SIGTERM again, and never SIGKILL
        replace_file(_mark(run_dir, status), f"{boot_id()} {time.monotonic()}".encode(), sync=False)


def _terminated_since(run_dir: Path, status: Status) -> float | None:
    """Seconds since SIGTERM was sent to this very process; None where it was not. Survives a set clock."""
    try:
        boot, sent = read_regular(_mark(run_dir, status)).decode("ascii").split(" ")
        return time.monotonic() - float(sent) if boot == boot_id() else None
    except (OSError, ValueError):
        return None


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


def _settle(run_dir: Path, status: Status) -> None:
    """After a stop that needed signals: ends what the trainer left behind, and says why where it could not."""
    if _terminated_since(run_dir, status) is None:
        return
    for process in _left_behind(run_dir, status):
        _signal(process.kill)
    with contextlib.suppress(RunError, OSError), RunDirectory(run_dir).lock():
        latest = read_status(run_dir)
        if latest is not None and latest.pid == status.pid and latest.state in LIVE_STATES:
            cause = "ended by a signal, for it did not stop on request"
            write_status(run_dir, interrupted(RunDirectory(run_dir), latest, cause))


def _left_behind(run_dir: Path, status: Status) -> list[psutil.Process]:
    """Living processes of the session that the trainer led, known as its own by their environment.

    The processes of a distributed training have a session each; theirs are those of the run that began before its end.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            together = status.world_size > 1 and process.create_time() < status.heartbeat
            if (together or os.getsid(process.pid) == status.pid) and process.environ().get(RUN_DIR_VARIABLE) == str(
                run_dir.resolve()
            ):
                found.append(process)
    return found


def _signal(send: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.Error, OSError):
        send()
