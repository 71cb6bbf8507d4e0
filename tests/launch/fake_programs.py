"""Small programs in the place of the trainer, and how the tests look at them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import psutil

from moe_hub.runs.status import read_status
from moe_hub.runs.store import RunDirectory

# What every one of them begins with: it reports itself as running, as a trainer does.
PROLOGUE = """
import os, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path
from moe_hub.runs import control
from moe_hub.runs.status import process_identity, read_status, write_status
run_dir = Path(os.environ["MOE_HUB_RUN_DIR"])
status = read_status(run_dir)
def report(state, **more):
    global status
    status = replace(status, state=state, heartbeat=time.time(), **{**process_identity(), **more})
    write_status(run_dir, status)
"""
OBEDIENT = (
    PROLOGUE
    + """
report("running")
step = 0
while not any(request.action == "stop" for request in control.take(run_dir)):
    step += 1
    report("running", step=step)
    time.sleep(0.01)
report("stopped", exit_reason="stopped on request")
"""
)
QUICK = PROLOGUE + "report('running')\nreport('finished', step=1)\n"


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def wait_until(what: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def pid_of(run: RunDirectory) -> int:
    status = read_status(run.path)
    assert status is not None
    assert status.pid is not None
    return status.pid
