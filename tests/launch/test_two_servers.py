"""Two real servers on one runs folder: each queued run is trained once, and what one starts the other shows."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_programs import is_gone, pid_of, wait_until

from moe_hub import launch
from moe_hub.config import Config, load_config
from moe_hub.runs.queue import RunQueue
from moe_hub.runs.status import FINAL_STATES, read_status
from moe_hub.runs.store import RunDirectory, RunStore

pytestmark = [pytest.mark.slow, pytest.mark.training, pytest.mark.timeout(1200)]
PATIENCE_S = 900.0  # six trainings, each some seconds on a machine that does nothing else
SMALL = (
    "model.architecture=dense", "model.d_model=16", "model.num_heads=2", "model.num_layers=1", "model.max_seq_len=96",
    "train.mode=standard", "train.max_steps=3", "train.batch_size=2", "train.eval_batches=1", "train.log_every=1",
    "train.device=cpu", "train.threads=1", "data.num_train_samples=40", "data.num_eval_samples=8",
    "data.max_term_size=9",
)  # fmt: skip


class Server:
    """`python -m moe_hub.web` on a free port."""

    def __init__(self, folder: Path, name: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        with (folder / f"{name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moe_hub.web", "--port", str(self.port), "--runs-dir", str(folder / "runs"),
                 "--data-dir", str(folder / "data")],
                stdout=log, stderr=log, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    def ask(self, path: str, body: Any = None) -> Any:
        """The JSON of an answer; with a body it is a POST."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{path}", content, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.ask("healthz"))
        assert self.process.poll() is None
        return False

    def states(self) -> dict[str, str]:
        return {row["id"]: row["state"] for row in self.ask("api/live")["runs"]["rows"]}

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Server]]:
    monkeypatch.setenv("MOE_HUB_DATA", str(tmp_path / "data"))
    (tmp_path / "runs").mkdir()
    servers = [Server(tmp_path, name) for name in ("one", "two")]
    for server in servers:
        wait_until(server.answers, PATIENCE_S)
    yield servers
    for server in servers:
        server.kill()


def small(name: str, *more: str) -> Config:
    return load_config(overrides=[f"name={name}", *SMALL, *more])


def test_six_queued_runs_are_trained_once_each(store: RunStore, servers: list[Server]) -> None:
    runs = [store.create(small(f"q{number}"), "queued") for number in range(6)]
    for run in runs:
        RunQueue(store.runs_dir).add(run.run_id)
    presses = [
        threading.Thread(target=server.ask, args=("api/queue", {"action": "start"})) for server in servers * 3
    ]  # both pages, pressed again and again, at once
    for press in presses:
        press.start()
    for press in presses:
        press.join()
    wait_until(lambda: all(run.state() in FINAL_STATES for run in runs), PATIENCE_S)
    assert [run.state() for run in runs] == ["finished"] * 6, [run.log_tail() for run in runs]
    for run in runs:
        rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows if "train/loss" in row] == [1, 2, 3]
        assert run.log_tail(64_000).count(f"run {run.run_id}:") == 1
    begins_and_ends = sorted(
        (row["time"], run.run_id) for run in runs
        for row in map(json.loads, (run.path / "metrics.jsonl").read_text().splitlines())
    )  # fmt: skip
    order = [run_id for _, run_id in begins_and_ends]
    turns = [run_id for place, run_id in enumerate(order) if place == 0 or order[place - 1] != run_id]
    assert turns == [run.run_id for run in runs]  # in the order of the queue, and never two at a time
    log = (RunQueue(store.runs_dir).folder / "log.txt").read_text()
    assert sorted(line for line in log.splitlines() if line.endswith(": started")) == sorted(
        f"{run.run_id}: started" for run in runs
    )
    for server in servers:
        wait_until(lambda server=server: set(server.states().values()) == {"finished"})


def test_a_run_outlives_the_server_that_started_it_and_the_other_takes_it_on(
    store: RunStore, servers: list[Server]
) -> None:
    """Both are killed; what ended meanwhile without a word is written down by the next one that starts."""
    one, two = servers
    kept, lost = (
        RunDirectory(store.runs_dir / launch.launch_run(store.runs_dir, small(name, "train.max_steps=1000000")))
        for name in ("kept", "lost")
    )
    wait_until(lambda: kept.state() == lost.state() == "running", PATIENCE_S)
    one.kill()
    assert two.states() == {kept.run_id: "running", lost.run_id: "running"}
    two.kill()
    pid = pid_of(kept)
    os.kill(pid_of(lost), signal.SIGKILL)
    wait_until(lambda: lost.state() == "interrupted", 10)
    third = Server(store.runs_dir.parent, "three")
    try:
        wait_until(third.answers, PATIENCE_S)
        wait_until(lambda: (read_status(lost.path) or pytest.fail("no status")).state == "interrupted", PATIENCE_S)
        assert third.states() == {kept.run_id: "running", lost.run_id: "interrupted"}
        assert pid_of(kept) == pid
        assert launch.escalate_stop(kept.path, patience_s=PATIENCE_S) == "requested"  # adopted: it obeys as before
        assert kept.state() == "stopped"
        assert is_gone(pid)
    finally:
        third.kill()
