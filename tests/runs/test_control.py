"""Requests to a trainer: in order, taken once, nothing but requests obeyed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from moe_hub.errors import RunError
from moe_hub.runs import control


def actions(run_dir: Path) -> list[str]:
    return [request.action for request in control.take(run_dir)]


def test_requests_are_taken_in_the_order_they_were_left(tmp_path: Path) -> None:
    sent = [control.request(tmp_path, action) for action in ("pause", "save", "resume", "stop")]
    taken = control.take(tmp_path)
    assert [request.id for request in taken] == sent
    assert [request.action for request in taken] == ["pause", "save", "resume", "stop"]
    assert all(abs(request.time - time.time()) < 60 for request in taken)


def test_a_request_is_taken_once(tmp_path: Path) -> None:
    control.request(tmp_path, "save")
    assert actions(tmp_path) == ["save"]
    assert actions(tmp_path) == []


def test_waiting_shows_what_was_not_taken_and_takes_nothing(tmp_path: Path) -> None:
    control.request(tmp_path, "pause")
    assert [request.action for request in control.waiting(tmp_path)] == ["pause"]
    assert actions(tmp_path) == ["pause"]
    assert control.waiting(tmp_path) == []


def test_order_survives_a_clock_that_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control.request(tmp_path, "pause")
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    control.request(tmp_path, "resume")
    control.request(tmp_path, "save")
    assert actions(tmp_path) == ["pause", "resume", "save"]


def test_two_senders_and_a_taker_lose_and_double_nothing(tmp_path: Path) -> None:
    sent: list[str] = []
    taken: list[control.Request] = []
    done = threading.Event()

    def send() -> None:
        sent.extend(control.request(tmp_path, action) for action in ("pause", "resume") * 25)

    def take() -> None:
        while not done.is_set():
            taken.extend(control.take(tmp_path))

    taker = threading.Thread(target=take)
    senders = [threading.Thread(target=send) for _ in range(2)]
    for thread in (taker, *senders):
        thread.start()
    for thread in senders:
        thread.join()
    done.set()
    taker.join()
    taken.extend(control.take(tmp_path))
    assert sorted(request.id for request in taken) == sorted(sent)


def test_two_takers_share_the_requests(tmp_path: Path) -> None:
    sent = [control.request(tmp_path, "save") for _ in range(40)]
    taken: list[list[str]] = [[], []]

    def take(mine: list[str]) -> None:
        mine.extend(request.id for request in control.take(tmp_path))

    takers = [threading.Thread(target=take, args=(mine,)) for mine in taken]
    for thread in takers:
        thread.start()
    for thread in takers:
        thread.join()
    assert sorted(taken[0] + taken[1]) == sent


def test_set_carries_values(tmp_path: Path) -> None:
    control.request(tmp_path, "set", ghost_threshold=0.02)
    (request,) = control.take(tmp_path)
    assert request.action == "set"
    assert dict(request.values) == {"ghost_threshold": 0.02}


@pytest.mark.parametrize(
    ("action", "values", "part"),
    [
        ("explode", {}, "allowed: pause, resume, save, stop, set"),
        ("set", {}, "needs a value"),
        ("set", {"learning_rate": 0.1}, "settable: ghost_threshold"),
        ("set", {"ghost_threshold": 1.5}, "ghost_threshold = 1.5: allowed are 0 to 1"),
        ("set", {"ghost_threshold": -0.1}, "allowed are 0 to 1"),
        ("set", {"ghost_threshold": float("nan")}, "is not a number"),
        ("set", {"ghost_threshold": float("inf")}, "is not a number"),
        ("set", {"ghost_threshold": "0.1"}, "is not a number"),
        ("set", {"ghost_threshold": True}, "is not a number"),
        ("pause", {"ghost_threshold": 0.1}, "takes no values"),
    ],
)
def test_a_wrong_request_is_refused_and_leaves_no_file(
    tmp_path: Path, action: str, values: dict[str, float], part: str
) -> None:
    with pytest.raises(RunError, match=part):
        control.request(tmp_path, action, **values)
    assert control.waiting(tmp_path) == []


GARBAGE = {
    "empty": b"",
    "torn": b'{"action": "sto',
    "list": b"[]",
    "number": b"7",
    "unknown": b'{"action": "rm -rf"}',
    "no-action": b'{"time": 1}',
    "action-list": b'{"action": ["stop"]}',
    "values-list": b'{"action": "set", "values": [1]}',
    "values-text": b'{"action": "set", "values": {"ghost_threshold": "x"}}',
    "values-unknown": b'{"action": "set", "values": {"seed": 1}}',
    "values-on-stop": b'{"action": "stop", "values": {"ghost_threshold": 0.1}}',
    "binary": bytes(range(256)),
    "long": b'{"action": "stop", "padding": "' + b"x" * 10_000 + b'"}',
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_removed_and_not_obeyed(tmp_path: Path, name: str) -> None:
    folder = tmp_path / control.CONTROL_FOLDER
    folder.mkdir()
    (folder / f"{name}.json").write_bytes(GARBAGE[name])
    control.request(tmp_path, "save")
    assert actions(tmp_path) == ["save"]
    assert list(folder.iterdir()) == []


def test_a_pipe_and_a_folder_do_not_hold_the_trainer_up(tmp_path: Path) -> None:
    folder = tmp_path / control.CONTROL_FOLDER
    folder.mkdir()
    os.mkfifo(folder / "0-pipe.json")
    (folder / "0-folder.json").mkdir()
    (folder / "0-link.json").symlink_to("/dev/zero")
    control.request(tmp_path, "pause")
    assert actions(tmp_path) == ["pause"]
    assert actions(tmp_path) == []


def test_a_request_being_written_is_not_taken(tmp_path: Path) -> None:
    folder = tmp_path / control.CONTROL_FOLDER
    folder.mkdir()
    (folder / ".1-part.json.99.abcd.tmp").write_bytes(b'{"action": "stop"}')
    (folder / ".2-part.json").write_bytes(b'{"action": "stop"}')
    assert actions(tmp_path) == []


def test_a_request_that_cannot_be_removed_is_not_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control.request(tmp_path, "save")

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        assert actions(tmp_path) == []
    assert actions(tmp_path) == ["save"]


def test_no_folder_means_no_requests(tmp_path: Path) -> None:
    assert control.take(tmp_path / "gone") == []
    assert control.waiting(tmp_path / "gone") == []


def test_a_run_that_is_gone_is_a_run_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run gone: the request stop cannot be written: No such file"):
        control.request(tmp_path / "gone", "stop")


def test_taking_nothing_costs_little_at_each_step(tmp_path: Path, cpu_s: Callable[..., float]) -> None:
    (tmp_path / control.CONTROL_FOLDER).mkdir()
    assert cpu_s(lambda: [control.take(tmp_path) for _ in range(100)]) / 100 < 200e-6
