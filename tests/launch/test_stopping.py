"""A stop gets the trainer, all of the trainer, and nobody but the trainer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest
from fake_programs import OBEDIENT, PROLOGUE, is_gone, pid_of, program, wait_until

from moe_hub import launch
from moe_hub.launch import stopping
from moe_hub.runs import control
from moe_hub.runs.status import Status, process_identity, write_status
from moe_hub.runs.store import RunDirectory

pytestmark = pytest.mark.slow

DEAF = PROLOGUE + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nreport('running')\nwhile True: time.sleep(1)"
ON_SIGTERM = (
    PROLOGUE
    + """
def end(number, frame):
    report("stopped", exit_reason="stopped by SIGTERM")
    raise SystemExit
signal.signal(signal.SIGTERM, end)
report("running")
while True: time.sleep(1)
"""
)
# A child in the trainer's own group, a grandchild, and one in a session of its own; their pids go to the log.
FAMILY = (
    PROLOGUE.replace("import os", "IGNORE = {ignore}\nimport os")
    + """
import textwrap
child = textwrap.dedent('''
    import os, signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen([sys.executable, "-c", "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
                      "print(os.getpid(), flush=True); time.sleep(60)"])
    print(os.getpid(), flush=True)
    time.sleep(60)
''')
if IGNORE: signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", child])
if IGNORE: subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
report("running")
while True: time.sleep(1)
"""
)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    yield process
    process.kill()
    process.communicate()


def start(run: RunDirectory, text: str) -> int:
    launch.start(run.path, command=program(text))
    wait_until(lambda: run.state() == "running")
    return pid_of(run)


def test_an_obedient_trainer_needs_the_request_alone(run: RunDirectory) -> None:
    pid = start(run, OBEDIENT)
    assert launch.escalate_stop(run.path) == "requested"
    assert run.state() == "stopped"
    assert is_gone(pid)


def test_a_busy_trainer_ends_at_sigterm_with_its_own_last_word(run: RunDirectory) -> None:
    start(run, ON_SIGTERM)
    long_ago = time.time() - 60
    assert launch.stop_stage(run.path, long_ago, patience_s=30) == "terminated"
    wait_until(lambda: launch.stop_stage(run.path, long_ago, patience_s=30) == "gone")
    status = run.status()
    assert status is not None
    assert (status.state, status.exit_reason) == ("stopped", "stopped by SIGTERM")


def test_a_trainer_that_ignores_sigterm_is_killed_and_it_is_said(run: RunDirectory) -> None:
    pid = start(run, DEAF)
    stages: list[str] = []
    assert launch.escalate_stop(run.path, patience_s=0.1, on_stage=stages.append) == "killed"
    assert stages == ["requested", "terminated", "killed"]
    assert is_gone(pid)
    status = run.status()
    assert status is not None
    assert status.state == "interrupted"
    assert "did not stop on request" in status.exit_reason


@pytest.mark.parametrize(("ignore", "size"), [(True, 4), (False, 2)])
def test_no_descendant_of_a_stopped_trainer_is_left(run: RunDirectory, ignore: bool, size: int) -> None:
    """Killed with it where it ignores SIGTERM; swept up afterwards where it obeys and leaves them behind."""
    pid = start(run, FAMILY.replace("{ignore}", str(ignore)))
    wait_until(lambda: len(run.log_tail().split()) == size)
    family = [int(word) for word in run.log_tail().split()]
    assert not any(is_gone(each) for each in family)
    launch.escalate_stop(run.path, patience_s=0.1)
    wait_until(lambda: all(is_gone(each) for each in (pid, *family)))


def test_nothing_to_stop(run: RunDirectory) -> None:
    write_status(run.path, Status(state="finished"))
    assert launch.escalate_stop(run.path) == "gone"
    assert control.waiting(run.path) == []


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_pid_given_to_a_stranger_gets_no_signal(
    run: RunDirectory, bystander: subprocess.Popen[bytes], state: str
) -> None:
    stranger = psutil.Process(bystander.pid)
    status = Status(
        state=state, **{**process_identity(), "pid": bystander.pid, "process_create_time": stranger.create_time() - 60}
    )
    write_status(run.path, replace(status, process_start_s=1.0))
    stopping._mark_terminated(run.path, replace(status, process_start_s=1.0))  # it was in the middle of a stop
    assert launch.stop_stage(run.path, time.time() - 3600, patience_s=0.01) == "gone"
    assert launch.escalate_stop(run.path, patience_s=0.01) == "gone"
    assert bystander.poll() is None


def test_a_trainer_on_another_host_gets_no_signal(run: RunDirectory, bystander: subprocess.Popen[bytes]) -> None:
    status = Status(state="running", heartbeat=time.time(), **{**process_identity(), "pid": bystander.pid})
    write_status(run.path, replace(status, host="elsewhere.example"))
    assert launch.stop_stage(run.path, time.time() - 3600, patience_s=0.01) == "requested"
    assert bystander.poll() is None


def test_a_stop_never_reaches_the_caller(run: RunDirectory) -> None:
    """A trainer that somebody runs in the group of this very process is signalled alone."""
    child = subprocess.Popen([sys.executable, "-c", DEAF], env={**os.environ, "MOE_HUB_RUN_DIR": str(run.path)})
    try:
        wait_until(lambda: run.state() == "running")
        assert os.getpgid(child.pid) == os.getpgrp()
        assert launch.escalate_stop(run.path, patience_s=0.1) == "killed"
    finally:
        child.kill()
        child.wait()


def test_sigterm_is_sent_once_however_often_it_is_asked(run: RunDirectory) -> None:
    counting = PROLOGUE + (
        "signal.signal(signal.SIGTERM, lambda *_: print('SIGTERM', flush=True))\n"
        "report('running')\nwhile True: time.sleep(0.01)"
    )
    start(run, counting)
    for _ in range(20):
        assert launch.stop_stage(run.path, time.time() - 60, patience_s=30) == "terminated"
    wait_until(lambda: "SIGTERM" in run.log_tail())
    assert run.log_tail().count("SIGTERM") == 1


WAITS = (  # state, age of its heartbeat, seconds since SIGTERM, and what is due where patience is 10 s
    ("running", 0, 9, "terminated"),
    ("running", 0, 11, "killed"),
    ("stopping", 0, 100, "terminated"),  # it has taken the request and writes its last checkpoint
    ("stopping", 0, 151, "killed"),
    ("stopped", 2, 100, "terminated"),  # it said so just now, and is about to end
    ("stopped", 11, 100, "killed"),
)


def test_sigkill_waits_longer_for_a_trainer_that_is_about_to_end(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = start(run, DEAF)
    status = run.status()
    assert status is not None
    killed: list[int] = []
    monkeypatch.setattr(stopping, "_kill_group", lambda _status, process: killed.append(process.pid))
    for state, heartbeat_s, since_s, stage in WAITS:
        write_status(run.path, replace(status, state=state, heartbeat=time.time() - heartbeat_s))
        monkeypatch.setattr(stopping, "_terminated_since", lambda *_, since_s=since_s: since_s)
        assert launch.stop_stage(run.path, time.time() - 60, patience_s=10) == stage, (state, since_s)
        assert killed == ([pid] if stage == "killed" else []), (state, since_s)
        killed.clear()


def test_neither_within_its_patience_nor_by_a_clock_that_is_set_is_it_killed(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = start(run, DEAF)
    requested_at, now = time.time(), time.time
    assert launch.stop_stage(run.path, requested_at, patience_s=3000) == "requested"
    for jump_s in (3600.0, -3600.0):
        monkeypatch.setattr(time, "time", lambda jump_s=jump_s: now() + jump_s)
        for _ in range(5):
            assert launch.stop_stage(run.path, requested_at, patience_s=3000) == "terminated"
    assert not is_gone(pid)


def test_a_stop_while_it_starts_waits_for_its_process(run: RunDirectory) -> None:
    assert launch.stop_stage(run.path, time.time() - 3600, patience_s=0.01) == "requested"
    write_status(run.path, Status(state="starting", heartbeat=0.0))
    assert launch.stop_stage(run.path, time.time() - 3600, patience_s=0.01) == "gone"
