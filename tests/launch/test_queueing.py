"""The queue's worker: each run once, one at a time, on after a failure, and an end when none waits."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from fake_programs import OBEDIENT, PROLOGUE, QUICK, program, wait_until

from moe_hub import launch
from moe_hub.config import Config
from moe_hub.errors import RunError
from moe_hub.launch import queueing
from moe_hub.runs import control
from moe_hub.runs.queue import RunQueue
from moe_hub.runs.status import Status, local_process, process_identity, read_status, write_status
from moe_hub.runs.store import RunDirectory, RunStore

pytestmark = pytest.mark.slow

# Writes when it began and ended to a file beside the runs; the name of the run says what it does.
RECORDED = (
    PROLOGUE
    + """
name = run_dir.name.split("-")[2]
journal = open(run_dir.parent.parent / "journal", "a")
def note(word):
    journal.write(f"{word} {run_dir.name}\\n")
    journal.flush()
note("begin")
report("running")
time.sleep(0.05)
note("end")
if name == "fail": report("failed", exit_reason="as it was told")
elif name == "crash": os._exit(9)
else: report("finished", step=1)
"""
)
FAST = {"command": program(RECORDED), "poll_s": 0.01}


def journal(store: RunStore) -> list[tuple[str, str]]:
    path = store.runs_dir.parent / "journal"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line.split(" ")[0], line.split(" ")[1]) for line in lines]


def queued(store: RunStore, *names: str) -> list[str]:
    queue = RunQueue(store.runs_dir)
    runs = [store.create(Config(name=name), "queued") for name in names]
    for run in runs:
        queue.add(run.run_id)
    return [run.run_id for run in runs]


def test_runs_are_trained_one_after_the_other_in_order(store: RunStore) -> None:
    ids = queued(store, "one", "two", "three")
    RunQueue(store.runs_dir).move(ids[2], 0)
    assert launch.run_queue(store.runs_dir, **FAST) == 3
    order = [ids[2], ids[0], ids[1]]
    assert journal(store) == [(word, run_id) for run_id in order for word in ("begin", "end")]
    assert {store.open(run_id).state() for run_id in ids} == {"finished"}
    assert RunQueue(store.runs_dir).waiting() == ()
    assert not launch.is_worked(store.runs_dir)


def test_it_goes_on_after_runs_that_fail_crash_or_cannot_be_started(
    store: RunStore, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("starting", "queueing"):
        monkeypatch.setattr(f"moe_hub.launch.{module}.BRIEFLY_S", 0.0)
    ids = queued(store, "one", "fail", "crash", "held", "two")
    with store.open(ids[3]).lock():  # somebody holds it, so it cannot be started nor marked
        assert launch.run_queue(store.runs_dir, **FAST) == 4
    states = [store.open(run_id).state() for run_id in ids]
    assert states == ["finished", "failed", "interrupted", "queued", "finished"]
    assert f"{ids[3]}: run {ids[3]} is held by another process" in capfd.readouterr().out


def test_a_run_whose_trainer_cannot_be_opened_is_failed_and_the_next_begins(store: RunStore) -> None:
    ids = queued(store, "one", "two")
    assert launch.run_queue(store.runs_dir, command=["/no/such/program"], poll_s=0.01) == 0
    for run_id in ids:
        status = store.open(run_id).status()
        assert status is not None
        assert status.state == "failed"
        assert "/no/such/program" in status.exit_reason


def test_two_workers_start_each_run_once(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "_TAKE_OVER_S", 0.1)
    ids = queued(store, *"abc")
    counts: list[int] = []
    workers = [threading.Thread(target=lambda: counts.append(launch.run_queue(store.runs_dir, **FAST))) for _ in "12"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(counts) == [0, 3]
    assert [run_id for word, run_id in journal(store) if word == "begin"] == ids


def test_a_run_that_is_alive_already_goes_first(store: RunStore) -> None:
    running = store.create(Config(name="first"))
    launch.start(running.path, command=program(OBEDIENT))
    wait_until(lambda: running.state() == "running")
    (run_id,) = queued(store, "second")
    worker = threading.Thread(target=lambda: launch.run_queue(store.runs_dir, **FAST))
    worker.start()
    time.sleep(0.3)
    assert store.open(run_id).state() == "queued"
    control.request(running.path, "stop")
    worker.join()
    assert store.open(run_id).state() == "finished"


def test_a_run_taken_out_or_started_by_hand_meanwhile_is_not_started(store: RunStore) -> None:
    first, second, third = queued(store, "one", "two", "three")
    RunQueue(store.runs_dir).remove(first)
    launch.start(store.open(second).path, command=program(RECORDED))
    assert launch.run_queue(store.runs_dir, **FAST) == 1
    assert [run_id for word, run_id in journal(store) if word == "begin"] == [second, third]
    with pytest.raises(RunError, match="is finished and waits no longer"):
        launch.start(store.open(second).path, command=program(RECORDED), only_queued=True)


def test_enqueue_starts_a_detached_worker_that_ends_with_the_queue(store: RunStore) -> None:
    command = program(RECORDED)
    first = launch.enqueue(store.runs_dir, Config(name="one"), command=command)
    wait_until(lambda: launch.is_worked(store.runs_dir))
    status = read_status(store.runs_dir / ".queue")
    assert status is not None
    process = local_process(status)
    assert process is not None
    assert os.getsid(process.pid) == process.pid
    assert process not in psutil.Process().children(recursive=True)
    second = launch.enqueue(store.runs_dir, Config(name="two"), command=command)
    assert not launch.start_queue(store.runs_dir, command=command)  # a worker is there
    wait_until(lambda: {store.open(run_id).state() for run_id in (first, second)} == {"finished"})
    wait_until(lambda: not launch.is_worked(store.runs_dir))
    assert [run_id for word, run_id in journal(store) if word == "begin"] == [first, second]
    assert f"{second}: started" in RunDirectory(store.runs_dir / ".queue").log_tail()


def test_a_run_added_while_the_worker_ends_is_not_left_alone(store: RunStore) -> None:
    """Added again and again just when the last one has ended, each is trained all the same."""
    ids = []
    for index in range(3):
        ids.append(launch.enqueue(store.runs_dir, Config(name=f"r{index}"), command=program(QUICK)))
        wait_until(lambda: store.open(ids[-1]).state() == "finished")
    assert {store.open(run_id).state() for run_id in ids} == {"finished"}


def test_a_killed_worker_leaves_the_queue_and_nothing_starts_by_itself(store: RunStore) -> None:
    first = launch.enqueue(store.runs_dir, Config(name="one"), command=program(OBEDIENT))
    (second,) = queued(store, "two")
    wait_until(lambda: store.open(first).state() == "running")
    status = read_status(store.runs_dir / ".queue")
    assert status is not None
    worker = local_process(status)
    assert worker is not None
    worker.kill()
    wait_until(lambda: not launch.is_worked(store.runs_dir))
    assert store.open(first).state() == "running"  # the trainer is its own
    control.request(store.open(first).path, "stop")
    wait_until(lambda: store.open(first).state() == "stopped")
    assert launch.reconcile(store.runs_dir).queued == (second,)
    time.sleep(0.2)
    assert store.open(second).state() == "queued"
    assert launch.start_queue(store.runs_dir, command=program(QUICK))
    wait_until(lambda: store.open(second).state() == "finished")


def test_an_empty_queue_starts_no_worker(store: RunStore) -> None:
    assert not launch.start_queue(store.runs_dir)
    assert launch.run_queue(store.runs_dir, **FAST) == 0
    store.create(Config())
    assert not launch.start_queue(store.runs_dir)


def test_the_status_of_a_worker_that_is_gone_or_elsewhere(store: RunStore) -> None:
    folder = store.runs_dir / ".queue"
    folder.mkdir(parents=True)
    write_status(folder, Status(state="running", **{**process_identity(), "pid": 2**22 - 1}))
    assert not launch.is_worked(store.runs_dir)
    far = {**process_identity(), "host": "elsewhere.example"}
    write_status(folder, Status(state="running", heartbeat=time.time(), **far))
    assert launch.is_worked(store.runs_dir)
    write_status(folder, Status(state="running", heartbeat=time.time() - 3600, **far))
    assert not launch.is_worked(store.runs_dir)


def test_a_trainer_that_does_not_end_after_its_last_word_holds_up_for_a_while_only(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queueing, "_ENDING_S", 0.2)
    hanging = PROLOGUE + "report('running')\nreport('finished')\ntime.sleep(60)"
    ids = queued(store, "one", "two")
    assert launch.run_queue(store.runs_dir, command=program(hanging), poll_s=0.01) == 2
    assert {store.open(run_id).state() for run_id in ids} == {"finished"}


def test_the_worker_as_a_command(store: RunStore, tmp_path: Path) -> None:
    ids = queued(store, "one")
    done = subprocess.run(
        [sys.executable, "-m", "moe_hub.launch", "--queue", str(store.runs_dir), "--", *program(RECORDED)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{ids[0]}: started", f"{ids[0]}: finished"]
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-m", "moe_hub.launch", "--queue", str(tmp_path / "file" / "runs")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
