"""Starts torchrun with a process for each rank, and writes the end of a run whose rank 0 could not. No torch.

torchrun ends all processes when one is lost. Rank 0 then finds its partners gone and says so in the status; but where
it is rank 0 that was killed, nobody would. So this process waits for torchrun and looks at what the status says.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import FrameType

import psutil

from moe_hub.errors import RunError
from moe_hub.runs import control
from moe_hub.runs.status import LIVE_STATES, Status, process_identity, write_status
from moe_hub.runs.store import BRIEFLY_S, RunDirectory

LOCK_PATIENCE_S = 40.0  # torchrun gives the others 30 s to end


def torchrun(processes: int, arguments: Sequence[str]) -> list[str]:
    """The command that trains with several processes on this machine; `arguments` are those of the trainer."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *launcher, "-m", "moe_hub.train", *arguments]


def under_torchrun() -> bool:
    """Whether the environment names a rank among several."""
    needed = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    return all(name in os.environ for name in needed) and int(os.environ["WORLD_SIZE"]) > 1


def supervise(run: RunDirectory, processes: int, arguments: Sequence[str]) -> int:
    """Trains the run with that many processes and returns the exit code: 0 finished or stopped, 1 failed.

    Ctrl-C, SIGTERM and SIGHUP ask the run to save and stop; a second Ctrl-C ends all processes. Raises `RunError` where
    another process trains the run.
    """
    _begin(run)
    threads = max(1, (os.cpu_count() or 1) // processes)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    # In a group of its own, so that a Ctrl-C in the terminal reaches this process alone: torchrun would kill its
    # processes 30 s after, in the middle of a long save.
    torch_run = subprocess.Popen(torchrun(processes, arguments), env=environment, process_group=0)
    with _stopping(run, torch_run):
        torch_run.wait()
    return 0 if _settled(run) in ("finished", "stopped") else 1


def _begin(run: RunDirectory) -> None:
    """Puts this process into the status until rank 0 has its own there: loading torch takes a while.

    Raises `RunError` where another process trains the run.
    """
    with run.lock(BRIEFLY_S):
        status = run.status() or Status(state="starting")
        starting = replace(status, state="starting", reason="", exit_reason="", failure={}, heartbeat=time.time())
        with contextlib.suppress(OSError):  # a full disk: readers see the old status for a while
            write_status(run.path, replace(starting, **process_identity()))


@contextlib.contextmanager
def _stopping(run: RunDirectory, torch_run: subprocess.Popen[bytes]) -> Iterator[None]:
    """Signals to this process become requests to the run."""
    asked: list[int] = []

    def heard(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and signal.SIGINT in asked:
            _kill_all(torch_run.pid)
        asked.append(number)
        if len(asked) == 1:
            with contextlib.suppress(RunError):
                control.request(run.path, "stop")

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _kill_all(pid: int) -> None:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (*process.children(recursive=True), process):
            with contextlib.suppress(psutil.Error):
                each.kill()


def _settled(run: RunDirectory) -> str:
    """The state that the run ended in; where rank 0 could not write one, `failed` is written."""
    with contextlib.suppress(RunError, OSError), run.lock(LOCK_PATIENCE_S):
        status = run.status()
        if status is None or status.state not in LIVE_STATES:
            return status.state if status is not None else "failed"
        if _ended_by_force(run):
            return "interrupted"  # written by whoever sent the signals
        cause = "the process of rank 0 is gone: killed, or out of memory"
        if status.state == "starting":
            cause = "the processes ended while they started"
        advice = "The end of the log may say why; resume goes on from the last checkpoint"
        failure = {"kind": "lost_process", "cause": cause, "advice": advice, "log": run.log_tail()}
        ended = replace(status, state="failed", reason="", exit_reason=f"{cause}. {advice}", failure=failure)
        write_status(run.path, replace(ended, heartbeat=time.time()))
    return "failed"


def _ended_by_force(run: RunDirectory) -> bool:
    """Whether a stop came to signals (see `launch/stopping.py`, which leaves a mark)."""
    folder = run.path / control.CONTROL_FOLDER
    return any(folder.glob(".terminated-*"))
