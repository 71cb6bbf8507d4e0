"""Background callbacks through Celery and a real Redis: the worker starts the run that the page asked for."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Site, Watched, fill_small, newest_run, until

from moe_hub import launch
from moe_hub.errors import ConfigError
from moe_hub.runs.store import RunStore
from moe_hub.web.background import celery_app, manager

pytest.importorskip("celery")


@pytest.mark.parametrize("url", ["127.0.0.1:6379", "http://127.0.0.1", "", "amqp://x"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="redis://"):
        celery_app(url)


def test_nothing_is_unpickled() -> None:
    app = celery_app("redis://127.0.0.1:1/0")
    assert app.conf.accept_content == ["json"]
    assert (app.conf.task_serializer, app.conf.result_serializer) == ("json", "json")


def test_without_an_address_jobs_are_processes_of_this_machine(tmp_path: Path) -> None:
    assert type(manager(tmp_path)).__name__ == "DiskcacheManager"
    assert type(manager(tmp_path, "redis://127.0.0.1:1/0")).__name__ == "CeleryManager"


class CelerySite(Site):
    """A site whose jobs go through Redis."""

    url = ""

    def _program(self) -> list[str]:
        return [*super()._program(), "--celery", self.url]

    @contextlib.contextmanager
    def worker(self) -> Iterator[None]:
        command = [sys.executable, "-m", "moe_hub.web.worker", "--celery", self.url, "--runs-dir", str(self.runs_dir)]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*command, "--data-dir", str(self.data_dir)], stdout=log, stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis of its own on loopback that keeps nothing on disk."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on this machine")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen([*command, "--dir", str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    try:
        until(answers, 30)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.browser
@pytest.mark.training
@pytest.mark.timeout(400)
def test_a_worker_starts_what_the_page_asks_for(redis_url: str, tmp_path: Path, chrome: Any) -> None:
    site = CelerySite(tmp_path)
    site.url = redis_url
    site.start()
    store = RunStore(site.runs_dir)
    try:
        page = chrome.new_context(viewport={"width": 1440, "height": 900}).new_page()
        watched = Watched(page, site.address)
        page.goto(site.address)
        page.wait_for_selector("#run-status .run-title")
        fill_small(page, **{"train-max_steps": "30"})
        until(lambda: page.is_enabled("#start-button") and "30" in page.inner_text("#command-preview"))
        page.click("#start-button")
        until(lambda: page.is_disabled("#start-button"))
        time.sleep(3)  # the job waits in Redis: the page's own machine does not take it
        assert store.ids() == ()
        with site.worker():
            run = newest_run(site)
            until(lambda: run.state() == "finished", 240)
            until(lambda: page.is_enabled("#start-button"))
        assert watched.wrong == []
        page.context.close()
    finally:
        site.kill()
        for run_id in store.ids():
            launch.escalate_stop(store.runs_dir / run_id, patience_s=0.5)
