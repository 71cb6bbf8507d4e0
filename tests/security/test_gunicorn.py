"""The documented gunicorn command: several workers behind one address, which share no memory."""

from __future__ import annotations

import http.client
import importlib.util
import json
import re
import shlex
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser import SMALL_OVERRIDES, Watched, drawn_points, fill_small, until
from servers import ROOT, free_port, running
from web_fixtures import write_run

from moe_hub import launch
from moe_hub.config import load_config
from moe_hub.runs.queue import RunQueue
from moe_hub.runs.store import RunStore

TOKEN = "several-workers-9"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("gunicorn") is None, reason="gunicorn is not installed (extra serve)"),
]


@dataclass
class Served:
    """A page that two workers serve."""

    port: int
    folder: Path

    @property
    def store(self) -> RunStore:
        return RunStore(self.folder / "runs")

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
        """Status, content and headers over a new connection, which any worker may take."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {"Authorization": f"Bearer {TOKEN}", **headers}
        if isinstance(body, dict):
            body, given["Content-Type"] = json.dumps(body).encode(), "application/json"
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        found = json.loads(content) if answer.headers.get_content_type() == "application/json" else content
        return answer.status, found, answer.headers


def documented_command() -> str:
    """The command in docs/serving.md."""
    text = (ROOT / "docs" / "serving.md").read_text()
    found = re.search(r"^(gunicorn (?:[^\n]*\\\n)*[^\n]*)$", text, re.MULTILINE)
    assert found
    return found[1].replace("\\\n", " ")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The documented command on other folders and another port; trainers that it started are stopped at the end."""
    folder = tmp_path_factory.mktemp("served")
    port = free_port()
    words = shlex.split(documented_command())
    assert words[words.index("--workers") + 1] in ("2", "3", "4")
    words[words.index("--bind") + 1] = f"127.0.0.1:{port}"
    assert words[-1].startswith("moe_hub.web.wsgi:application(")
    words[-1] = f'moe_hub.web.wsgi:application("--runs-dir", "{folder / "runs"}", "--data-dir", "{folder / "data"}")'
    write_run(folder / "runs", 40)
    command = [sys.executable, "-m", *words]
    with running(command, folder / "log", f"http://127.0.0.1:{port}/healthz", MOE_HUB_TOKEN=TOKEN):
        yield Served(port, folder)
        store = RunStore(folder / "runs")
        for run_id in store.ids():
            launch.escalate_stop(store.runs_dir / run_id, patience_s=1)


def workers_seen(served: Served, asks: int = 60) -> set[str]:
    """What distinguishes the workers that answered: the version of the list of runs names its process."""
    return {served.ask("GET", "/api/live")[1]["runs"]["v"].partition(":")[0] for _ in range(asks)}


def test_two_workers_answer(served: Served) -> None:
    until(lambda: len(workers_seen(served)) >= 2)


def test_a_session_is_known_to_every_worker_until_it_ends(served: Served) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": ""}
    assert served.ask("POST", "/sign-in", b"token=wrong-token", **form)[0] == 403
    status, _, headers = served.ask("POST", "/sign-in", f"token={TOKEN}".encode(), **form)
    assert status == 303
    mine = {"Cookie": headers["Set-Cookie"].partition(";")[0], "Authorization": ""}
    assert {served.ask("GET", "/api/live", **mine)[0] for _ in range(40)} == {200}
    assert served.ask("POST", "/sign-out", **mine)[0] == 303
    assert {served.ask("GET", "/api/live", **mine)[0] for _ in range(40)} == {401}


def test_an_upload_lands_on_different_workers(served: Served) -> None:
    content = b"".join(json.dumps({"text": f"row {n}"}).encode() + b"\n" for n in range(20_000))
    begun = served.ask("POST", "/api/uploads", {"name": "rows.jsonl", "size": len(content)})[1]
    binary = {"Content-Type": "application/octet-stream"}
    piece = len(content) // 30 + 1
    for offset in range(0, len(content), piece):
        address = f"/api/uploads/{begun['upload']}?offset={offset}"
        status, answer, _ = served.ask("POST", address, content[offset : offset + piece], **binary)
        assert status == 200, answer
    assert (served.folder / "data" / "uploads" / "rows.jsonl").read_bytes() == content
    assert {tuple(each["name"] for each in served.ask("GET", "/api/data")[1]["files"]) for _ in range(20)} == {
        ("rows.jsonl",)
    }


def test_a_job_is_read_and_stopped_through_any_worker(served: Served) -> None:
    path = served.folder / "data" / "uploads" / "job.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": f"hello there, number {n}"}) + "\n" for n in range(200)))
    status, begun, _ = served.ask("POST", "/api/data/inspect", {"data": {"source": "file", "path": str(path)}})
    assert status == 200, begun
    states: list[str] = []

    def done() -> bool:
        status, answer, _ = served.ask("GET", f"/api/jobs/{begun['job']}")
        assert status == 200, answer
        states.append(answer["state"])
        return bool(answer["state"] != "running")

    until(done, 200)
    assert states[-1] == "done", served.ask("GET", f"/api/jobs/{begun['job']}")
    begun = served.ask("POST", "/api/data/inspect", {"data": {"source": "file", "path": str(path)}})[1]
    assert {served.ask("POST", "/api/jobs/stop", {"job": begun["job"]})[0] for _ in range(6)} == {200}
    until(lambda: served.ask("GET", f"/api/jobs/{begun['job']}")[1]["state"] in ("stopped", "done"), 60)


@pytest.mark.training
def test_the_queue_starts_each_run_once(served: Served) -> None:
    config = load_config(preset="geometric_lambda", overrides=[*SMALL_OVERRIDES, "train.max_steps=3", "name=queued"])
    queue = RunQueue(served.store.runs_dir)
    ids = [served.store.create(config, state="queued").run_id for _ in range(2)]
    for run_id in ids:
        queue.add(run_id)
    threads = [threading.Thread(target=served.ask, args=("POST", "/api/queue", {"action": "start"})) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs = [served.store.open(run_id) for run_id in ids]
    until(lambda: all(run.state() in ("finished", "failed") for run in runs), 400, every_s=0.5)
    for run in runs:
        status = run.status()
        assert status is not None
        assert (run.state(), status.attempt, status.step) == ("finished", 0, 3), run.log_tail()
        assert (run.path / "log.txt").read_text().count("finished at step") == 1
        steps = [json.loads(line)["step"] for line in (run.path / "metrics.jsonl").read_text().splitlines()]
        assert steps.count(1) == 1, steps
    assert not queue.waiting()


@pytest.mark.browser
@pytest.mark.training
def test_a_page_starts_a_run_and_watches_it(served: Served, chrome: Any, request: pytest.FixtureRequest) -> None:
    context = chrome.new_context(viewport={"width": 1440, "height": 900})
    request.addfinalizer(context.close)
    page = context.new_page()
    address = f"http://127.0.0.1:{served.port}/"
    page.goto(address)
    page.fill("#token", TOKEN)
    watched = Watched(page, address)
    page.click("button")
    page.wait_for_selector("#run-status .run-title")
    before = set(served.store.ids())
    fill_small(page, **{"train-max_steps": "30000"})
    page.fill("#field-name", "through-workers")
    until(lambda: "through-workers" in page.inner_text("#command-preview"))
    until(lambda: page.is_enabled("#start-button"))
    page.click("#start-button")  # a background callback: its job, its polls and its result meet both workers
    until(lambda: set(served.store.ids()) - before, 120)
    (run_id,) = set(served.store.ids()) - before
    run = served.store.open(run_id)
    until(lambda: (found := run.status()) is not None and found.step > 3, 240)
    until(lambda: drawn_points(page) > 3, 120)
    seen = drawn_points(page)
    until(lambda: drawn_points(page) > seen, 120)
    page.click("#stop-button")
    until(lambda: run.state() == "stopped", 120)
    until(lambda: "stopped" in page.inner_text("#run-status"), 60)
    assert watched.wrong == []
