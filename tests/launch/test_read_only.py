"""A runs folder that nobody can write: what is there is shown, and what cannot be done is said."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moe_hub import launch
from moe_hub.config import Config
from moe_hub.errors import RunError
from moe_hub.runs import control
from moe_hub.runs.queue import RunQueue
from moe_hub.runs.reader import MetricReader
from moe_hub.runs.status import Status, process_identity, write_status
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.runs.writer import MetricWriter


@pytest.fixture
def frozen(make_disk: Callable[[str], Path]) -> Iterator[RunDirectory]:
    """A run with rows, whose trainer is gone, on a disk that is then mounted read-only."""
    disk = make_disk("size=4m")
    run = RunStore(disk / "runs").create(Config(name="frozen"))
    with MetricWriter(run.path) as writer:
        writer.write(1, {"train/loss": 2.0}, time=0.0)
    write_status(run.path, Status(state="running", step=1, **{**process_identity(), "process_start_s": 1.0}))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    yield run
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


def test_what_is_there_is_shown(frozen: RunDirectory) -> None:
    store = RunStore(frozen.path.parent)
    assert [(each.run_id, each.state) for each in store.list()] == [(frozen.run_id, "interrupted")]
    reader = MetricReader(frozen.path)
    assert reader.poll()
    assert reader.history().series("train/loss")[1].tolist() == [2.0]
    assert launch.reconcile(store.runs_dir).interrupted == ()  # it cannot be written down, and is shown all the same
    assert RunQueue(store.runs_dir).waiting() == ()


def test_what_cannot_be_done_is_said(frozen: RunDirectory) -> None:
    runs_dir = frozen.path.parent
    with pytest.raises(RunError, match="Read-only file system; make room there, or choose another folder"):
        launch.launch_run(runs_dir, Config(name="new"))
    with pytest.raises(RunError, match="Read-only file system"):
        launch.start(frozen.path, resume=True)
    with pytest.raises(RunError, match="the request stop cannot be written: Read-only file system"):
        control.request(frozen.path, "stop")
    with pytest.raises(RunError, match="Read-only file system"):
        RunStore(runs_dir).rename(frozen.run_id, "label")
    with pytest.raises(RunError, match="Read-only file system"):
        launch.enqueue(runs_dir, Config(name="new"))


def test_a_stop_of_a_run_that_is_gone_changes_nothing(frozen: RunDirectory) -> None:
    assert launch.escalate_stop(frozen.path) == "gone"
