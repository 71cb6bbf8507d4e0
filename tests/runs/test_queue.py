"""The order of the queue: it lasts, is shared by several processes, and holds queued runs only."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from moe_hub.config import Config, load_config
from moe_hub.errors import RunError
from moe_hub.runs import control
from moe_hub.runs.queue import RunQueue
from moe_hub.runs.status import Status, write_status
from moe_hub.runs.store import RunStore


@pytest.fixture
def queue(tmp_path: Path) -> RunQueue:
    return RunQueue(tmp_path / "runs")


def add(queue: RunQueue, count: int = 1) -> list[str]:
    ids = [queue.store.create(Config(name=f"run{index}"), "queued").run_id for index in range(count)]
    for run_id in ids:
        queue.add(run_id)
    return ids


def test_runs_wait_in_the_order_in_which_they_came(queue: RunQueue) -> None:
    ids = add(queue, 4)
    assert queue.waiting() == tuple(ids)
    assert RunQueue(queue.runs_dir).waiting() == tuple(ids)  # as another process sees it, later


def test_no_queue_is_an_empty_one(queue: RunQueue) -> None:
    assert queue.waiting() == ()
    assert queue.restore() == ()
    assert not queue.runs_dir.exists()


def test_adding_twice_keeps_the_place(queue: RunQueue) -> None:
    ids = add(queue, 3)
    queue.add(ids[0])
    assert queue.waiting() == tuple(ids)


@pytest.mark.parametrize("state", ["finished", "running", "stopped", "failed"])
def test_only_a_queued_run_is_added(queue: RunQueue, state: str) -> None:
    run = queue.store.create(Config(), state)
    with pytest.raises(RunError, match="only a queued run can wait its turn"):
        queue.add(run.run_id)
    assert queue.waiting() == ()


@pytest.mark.parametrize("run_id", ["../x", "", "/etc", "20260101-000000-none-0000"])
def test_what_is_no_run_is_refused(queue: RunQueue, run_id: str) -> None:
    add(queue)
    for action in (queue.add, queue.remove, lambda each: queue.move(each, 0)):
        with pytest.raises(RunError):
            action(run_id)


@pytest.mark.parametrize(
    ("which", "place", "expected"),
    [(3, 0, "dabc"), (0, 3, "bcda"), (0, 99, "bcda"), (2, -5, "cabd"), (1, 1, "abcd"), (0, 1, "bacd")],
)
def test_a_run_is_moved_to_a_place(queue: RunQueue, which: int, place: int, expected: str) -> None:
    ids = add(queue, 4)
    queue.move(ids[which], place)
    assert "".join("abcd"[ids.index(run_id)] for run_id in queue.waiting()) == expected


def test_a_removed_run_is_stopped_and_keeps_its_directory(queue: RunQueue) -> None:
    first, second = add(queue, 2)
    queue.remove(first)
    assert queue.waiting() == (second,)
    status = queue.store.open(first).status()
    assert status is not None
    assert (status.state, status.exit_reason) == ("stopped", "taken out of the queue before it began")
    queue.store.delete(first)
    with pytest.raises(RunError, match="does not wait"):
        queue.move(first, 0)


def test_a_run_that_has_begun_waits_no_longer(queue: RunQueue) -> None:
    first, second = add(queue, 2)
    status = queue.store.open(first).status()
    assert status is not None
    write_status(queue.runs_dir / first, replace(status, state="starting", heartbeat=time.time()))
    assert queue.waiting() == (second,)
    with pytest.raises(RunError, match="is starting and waits no longer"):
        queue.remove(first)
    with pytest.raises(RunError, match="it may have begun"):
        queue.move(first, 0)
    assert queue.store.open(first).state() == "starting"


def test_the_config_is_frozen_when_the_run_is_queued(queue: RunQueue, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("train: {max_steps: 5}\n")
    run = queue.store.create(load_config(path=path), "queued")
    queue.add(run.run_id)
    path.write_text("train: {max_steps: 6}\n")
    assert queue.store.open(queue.waiting()[0]).config().train.max_steps == 5


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"7", b'[1, null, ["x"], "../../etc", "nothing"]', b"\xff"])
def test_a_broken_order_loses_the_order_and_no_run(queue: RunQueue, content: bytes) -> None:
    ids = add(queue, 3)
    (queue.folder / "order.json").write_bytes(content)
    assert queue.waiting() == ()
    assert sorted(queue.restore()) == sorted(ids)
    assert sorted(queue.waiting()) == sorted(ids)


def test_an_id_that_stands_twice_waits_once(queue: RunQueue) -> None:
    first, second = add(queue, 2)
    (queue.folder / "order.json").write_text(json.dumps([second, first, second]))
    assert queue.waiting() == (second, first)


def test_several_processes_at_once_lose_nothing(queue: RunQueue) -> None:
    ids = [queue.store.create(Config(), "queued").run_id for _ in range(12)]
    others = [RunQueue(queue.runs_dir) for _ in range(3)]

    def work(mine: RunQueue, part: list[str]) -> None:
        for run_id in part:
            mine.add(run_id)
            mine.move(run_id, 0)

    threads = [threading.Thread(target=work, args=(each, ids[n::3])) for n, each in enumerate(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(queue.waiting()) == sorted(ids)


def test_the_queue_is_no_run(queue: RunQueue) -> None:
    (run_id,) = add(queue)
    write_status(queue.folder, Status(state="running"))
    control.request(queue.runs_dir / run_id, "pause")
    assert queue.store.ids() == (run_id,)
    assert [summary.state for summary in queue.store.list()] == ["queued"]
    assert RunStore(queue.runs_dir).find("latest").run_id == run_id
