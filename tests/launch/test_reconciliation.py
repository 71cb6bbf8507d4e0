"""A server that starts finds runs as they are: it adopts, writes down what ended, and breaks nothing."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace

from fake_programs import OBEDIENT, program, wait_until

from moe_hub import launch
from moe_hub.config import Config
from moe_hub.runs.queue import RunQueue
from moe_hub.runs.status import Status, process_identity, write_status
from moe_hub.runs.store import RunDirectory, RunStore

GONE_PID = 2**22 - 1


def gone(**more: object) -> dict[str, object]:
    return {**process_identity(), "pid": GONE_PID, **more}


def reason_of(run: RunDirectory) -> tuple[str, str]:
    status = run.status()
    assert status is not None
    return status.state, status.exit_reason


def test_a_run_without_its_process_is_written_down_as_interrupted_and_keeps_the_rest(store: RunStore) -> None:
    run = store.create(Config())
    write_status(run.path, Status(state="paused", step=7, max_steps=9, attempt=1, metrics={"a": 1.0}, **gone()))
    assert launch.reconcile(store.runs_dir).interrupted == (run.run_id,)
    status = run.status()
    assert status is not None
    assert (status.state, status.step, status.attempt, status.metrics) == ("interrupted", 7, 1, {"a": 1.0})
    assert status.exit_reason == "the process ended without a word: killed, or out of memory"
    assert launch.reconcile(store.runs_dir) == launch.Reconciled((), (), ())


def test_it_says_what_is_known_of_the_end(store: RunStore) -> None:
    never, reboot, crash = (store.create(Config()) for _ in range(3))
    write_status(never.path, Status(state="starting"))
    write_status(reboot.path, Status(state="running", **gone(boot_id="an older boot")))
    write_status(crash.path, Status(state="starting", **gone()))
    (crash.path / "log.txt").write_text("Traceback\nModuleNotFoundError: No module named 'torch'\n")
    assert set(launch.reconcile(store.runs_dir).interrupted) == {never.run_id, reboot.run_id, crash.run_id}
    assert reason_of(never)[1] == "it was made, but its trainer was never started"
    assert reason_of(reboot)[1] == "the machine stopped while it ran"
    assert reason_of(crash)[1].endswith("its log ends: ModuleNotFoundError: No module named 'torch'")


def test_a_run_that_lives_is_adopted_and_not_touched(store: RunStore) -> None:
    run = store.create(Config())
    launch.start(run.path, command=program(OBEDIENT))
    wait_until(lambda: run.state() == "running")
    assert launch.reconcile(store.runs_dir).alive == (run.run_id,)
    assert run.state() == "running"
    assert launch.escalate_stop(run.path) == "requested"
    assert run.state() == "stopped"


def test_runs_of_other_hosts_runs_that_are_held_and_ended_runs_stay_as_they_are(store: RunStore) -> None:
    far, held, ended, fresh = (store.create(Config()) for _ in range(4))
    write_status(far.path, Status(state="running", **gone(host="elsewhere.example")))
    write_status(held.path, Status(state="running", **gone()))
    write_status(ended.path, Status(state="failed", exit_reason="out of memory", **gone()))
    before = {run.run_id: run.status() for run in (far, held, ended, fresh)}
    with held.lock():
        found = launch.reconcile(store.runs_dir)
    assert found == launch.Reconciled((fresh.run_id,), (), ())
    assert {run.run_id: run.status() for run in (far, held, ended, fresh)} == before


def test_several_servers_at_once_do_no_harm(store: RunStore) -> None:
    runs = [store.create(Config()) for _ in range(20)]
    for run in runs:
        write_status(run.path, Status(state="running", **gone()))
    found: list[launch.Reconciled] = []
    threads = [threading.Thread(target=lambda: found.append(launch.reconcile(store.runs_dir))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(run_id for each in found for run_id in each.interrupted) == sorted(run.run_id for run in runs)


def test_queued_runs_that_the_order_lost_are_found_again_and_none_is_started(store: RunStore) -> None:
    first, second = store.create(Config(), "queued"), store.create(Config(), "queued")
    RunQueue(store.runs_dir).add(second.run_id)
    assert launch.reconcile(store.runs_dir).queued == (second.run_id, first.run_id)
    time.sleep(0.2)
    assert {first.state(), second.state()} == {"queued"}


def test_broken_folders_and_no_folder_are_nothing(store: RunStore) -> None:
    assert launch.reconcile(store.runs_dir) == launch.Reconciled((), (), ())
    (store.runs_dir / "folder").mkdir(parents=True)
    run = store.create(Config())
    os.truncate(run.path / "status.json", 3)
    assert launch.reconcile(store.runs_dir) == launch.Reconciled((), (), ())
    assert run.state() == "interrupted"


def test_a_folder_that_cannot_be_written_shows_the_same_state(store: RunStore, monkeypatch: object) -> None:
    from moe_hub.launch import reconciliation

    run = store.create(Config())
    write_status(run.path, replace(Status(state="running"), **gone()))
    original = reconciliation.write_status

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    reconciliation.write_status = refuse  # type: ignore[assignment]
    try:
        assert launch.reconcile(store.runs_dir).interrupted == ()
    finally:
        reconciliation.write_status = original
    assert run.state() == "interrupted"
