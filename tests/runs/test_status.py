"""What a run is doing: whatever lies in status.json, a reader gets the truth about the process or `interrupted`."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_hub.runs import status as status_module
from moe_hub.runs.status import (
    FINAL_STATES,
    LIVE_STATES,
    STATES,
    STATUS_FILE,
    Status,
    current_state,
    is_alive,
    local_process,
    process_identity,
    read_status,
    state_of,
    write_status,
)


@pytest.fixture
def mine() -> Status:
    """The status of a run that this very process trains."""
    return Status(state="running", heartbeat=time.time(), **process_identity())


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def identity_of(pid: int) -> dict[str, object]:
    return {**process_identity(), "pid": pid, "process_create_time": psutil.Process(pid).create_time(),
            "process_start_s": status_module._start_after_boot(pid)}  # fmt: skip


def test_states_are_live_final_or_queued() -> None:
    assert set(STATES) == LIVE_STATES | FINAL_STATES | {"queued"}
    assert not LIVE_STATES & FINAL_STATES


def test_a_status_comes_back_as_it_was_written(tmp_path: Path) -> None:
    status = Status(
        state="running", step=7, max_steps=90, reason="training", heartbeat=1.5, device="cpu", world_size=2,
        parameters={"total": 5, "parts": {"experts": 3}}, exit_reason="none", attempt=3, launch_id="ab",
        failure={"kind": "killed", "cause": "x", "advice": "y", "log": "z"},
        metrics={"train/loss": 0.25, "val/loss": math.inf}, **process_identity(),
    )  # fmt: skip
    write_status(tmp_path, status)
    assert read_status(tmp_path) == status
    written = json.loads((tmp_path / STATUS_FILE).read_text(), parse_constant=lambda token: pytest.fail(token))
    assert set(written) == {entry.name for entry in dataclasses.fields(Status)}


def test_nan_metrics_come_back_as_nan(tmp_path: Path) -> None:
    write_status(tmp_path, Status(state="failed", metrics={"train/loss": math.nan}))
    status = read_status(tmp_path)
    assert status is not None
    assert math.isnan(status.metrics["train/loss"])


def test_a_reader_never_sees_half_a_status(tmp_path: Path) -> None:
    write_status(tmp_path, Status(state="finished", step=0))
    done = threading.Event()

    def write() -> None:
        for step in range(300):
            write_status(tmp_path, Status(state="running", step=step, reason="x" * (step * 37 % 5000)))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while not done.is_set():
        status = read_status(tmp_path)
        assert status is not None
        seen.append(status.step)
    writer.join()
    assert seen == sorted(seen)
    assert [path.name for path in tmp_path.iterdir()] == [STATUS_FILE]


def test_a_failed_write_keeps_the_old_status_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_status(tmp_path, Status(state="running", step=1))

    def refuse(source: Path, target: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="Input/output"):
            write_status(tmp_path, Status(state="finished", step=2))
    status = read_status(tmp_path)
    assert status is not None
    assert status.step == 1
    assert [path.name for path in tmp_path.iterdir()] == [STATUS_FILE]


def test_a_full_disk_still_takes_the_word_that_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the room of the old file, whose place in the folder it keeps."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    write_status(tmp_path, Status(state="running", step=1, reason="x" * 500, metrics={"train/loss": 1.0}))
    monkeypatch.setattr(status_module, "replace_file", full)
    paused = Status(state="paused", step=2, reason="the disk is full")
    write_status(tmp_path, paused)
    assert read_status(tmp_path) == paused
    assert [path.name for path in tmp_path.iterdir()] == [STATUS_FILE]
    with pytest.raises(OSError, match="No space left"):  # more than the old file has room for
        write_status(tmp_path, Status(state="paused", reason="x" * 100_000))
    assert read_status(tmp_path) == paused


def test_a_status_that_is_being_written_over_is_read_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_status(tmp_path, Status(state="paused", step=3))
    whole = (tmp_path / STATUS_FILE).read_bytes()
    answers = [whole[:40], whole]
    monkeypatch.setattr(status_module, "read_regular", lambda *_: answers.pop(0))
    found = read_status(tmp_path)
    assert found is not None
    assert found.step == 3


def test_this_process_is_alive(mine: Status) -> None:
    assert is_alive(mine)
    assert state_of(mine) == "running"


def test_a_process_that_ended_is_interrupted(child: subprocess.Popen[bytes]) -> None:
    status = Status(state="running", heartbeat=time.time(), **identity_of(child.pid))
    assert state_of(status) == "running"
    child.kill()
    child.wait()
    assert state_of(status) == "interrupted"


def test_a_zombie_is_dead(child: subprocess.Popen[bytes]) -> None:
    status = Status(state="paused", heartbeat=time.time(), **identity_of(child.pid))
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended and nobody has reaped it
    assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
    assert not is_alive(status)
    assert state_of(status) == "interrupted"


def test_a_pid_that_was_given_to_another_process_is_dead(mine: Status) -> None:
    assert mine.process_start_s is not None
    assert mine.process_create_time is not None
    reused = replace(mine, process_start_s=mine.process_start_s - 5, process_create_time=mine.process_create_time - 5)
    assert local_process(reused) is None
    assert state_of(reused) == "interrupted"


def test_without_a_start_after_boot_the_create_time_decides(mine: Status) -> None:
    assert mine.process_create_time is not None
    assert is_alive(replace(mine, process_start_s=None))
    assert not is_alive(replace(mine, process_start_s=None, process_create_time=mine.process_create_time - 5))
    assert not is_alive(replace(mine, process_start_s=None, process_create_time=None))


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_clock_that_is_set_changes_nothing(mine: Status, monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    """psutil counts create times from the boot time, which moves with the clock."""
    real, now = psutil.Process.create_time, time.time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: real(process) + jump_s)
    monkeypatch.setattr(time, "time", lambda: now() + jump_s)
    assert is_alive(mine)
    assert state_of(mine) == "running"


def test_another_boot_is_dead(mine: Status) -> None:
    assert not is_alive(replace(mine, boot_id="00000000-0000-0000-0000-000000000000"))


def test_another_host_is_judged_by_its_heartbeat(mine: Status) -> None:
    far = replace(mine, host="elsewhere.example", pid=1, boot_id="another")
    assert state_of(far) == "running"
    assert local_process(far) is None
    assert state_of(replace(far, heartbeat=time.time() - 3600)) == "interrupted"
    assert state_of(replace(far, heartbeat=time.time() + 30)) == "running"  # its clock is ahead


@pytest.mark.parametrize("pid", [None, 0, 1, -1, 2**22 + 1, 2**31 - 1, 2**62])
def test_a_pid_that_no_trainer_can_have_is_dead(mine: Status, pid: int | None) -> None:
    assert local_process(replace(mine, pid=pid)) is None


def test_a_run_just_made_is_starting_for_a_while() -> None:
    now = time.time()
    assert state_of(Status(state="starting", heartbeat=now)) == "starting"
    assert state_of(Status(state="starting", heartbeat=now - 60)) == "interrupted"
    assert state_of(Status(state="starting", heartbeat=now + 3600)) == "interrupted"  # the clock was set back


@pytest.mark.parametrize("state", sorted(FINAL_STATES | {"queued"}))
def test_a_state_that_needs_no_process_stays(tmp_path: Path, state: str) -> None:
    write_status(tmp_path, Status(state=state))
    assert current_state(tmp_path) == state


GARBAGE: dict[str, bytes] = {
    "empty": b"",
    "torn": b'{"state": "runn',
    "list": b"[]",
    "text": b'"running"',
    "no state": b"{}",
    "unknown state": b'{"state": "exploded"}',
    "state is a list": b'{"state": ["running"]}',
    "NaN": b'{"state": NaN}',
    "binary": bytes(range(256)),
    "deep": b"[" * 100_000,
    "huge": b'{"state": "running", "reason": "' + b"x" * 2_000_000 + b'"}',
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_no_status(tmp_path: Path, name: str) -> None:
    (tmp_path / STATUS_FILE).write_bytes(GARBAGE[name])
    assert read_status(tmp_path) is None
    assert current_state(tmp_path) == "interrupted"


def test_no_file_a_link_and_a_pipe_are_no_status(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None
    outside = tmp_path / "outside.json"
    outside.write_text('{"state": "finished"}')
    (tmp_path / STATUS_FILE).symlink_to(outside)
    assert read_status(tmp_path) is None
    (tmp_path / STATUS_FILE).unlink()
    os.mkfifo(tmp_path / STATUS_FILE)
    assert read_status(tmp_path) is None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(STATES), st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(Status)]), anything)
)
def test_wrong_types_are_left_out(
    tmp_path_factory: pytest.TempPathFactory, state: str, values: dict[str, object]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / STATUS_FILE).write_text(json.dumps({**values, "state": state, "added_later": 1}))
    status = read_status(folder)
    if status is not None:  # orjson refuses integers beyond 64 bits: no status then
        assert status.state == state
        assert isinstance(status.step, int)
        assert isinstance(status.heartbeat, float)
        assert isinstance(status.reason, str)
        assert all(isinstance(value, float) for value in status.metrics.values())
        assert state_of(status) in STATES
