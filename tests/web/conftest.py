"""A dashboard on empty folders, and runs that a fake trainer wrote."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

sys.path.insert(0, str(Path(__file__).parent))
from browser import FLAGS, SMALL_OVERRIDES, Site, Watched, chromium, load_factor
from fake_trainer import TOKENS_PER_STEP, rows_of

from moe_hub import launch
from moe_hub.config import load_config
from moe_hub.runs.status import Status, read_status, write_status
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.runs.writer import MetricWriter
from moe_hub.web import create_dashboard

FAKE_TRAINER = Path(__file__).parent / "fake_trainer.py"


@dataclass
class Page:
    """A dashboard with its folders and a client that talks to it."""

    app: Any
    client: FlaskClient
    runs_dir: Path
    data_dir: Path

    @property
    def store(self) -> RunStore:
        return RunStore(self.runs_dir)


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """A dashboard with no run yet."""
    runs_dir, data_dir = tmp_path / "runs", tmp_path / "data"
    app = create_dashboard(runs_dir=runs_dir, data_dir=data_dir)
    return Page(app, app.server.test_client(), runs_dir, data_dir)


@pytest.fixture
def finished_run(page: Page) -> RunDirectory:
    """A run with 60 rows that ended by itself."""
    return write_run(page.runs_dir, 60)


def write_run(runs_dir: Path, steps: int, state: str = "finished", name: str = "fake", exit_reason: str = "") -> Any:
    """A run directory with rows up to `steps`, written at once."""
    config = load_config(preset="geometric_lambda", overrides=[f"name={name}"])
    run = RunStore(runs_dir).create(config)
    rng = np.random.default_rng(0)
    values: dict[str, Any] = {}
    with MetricWriter(run.path) as writer:
        for step in range(1, steps + 1):
            values = rows_of(step, rng)
            writer.write(step, values, tokens=step * TOKENS_PER_STEP)
    metrics = {name: float(value) for name, value in values.items() if isinstance(value, float)}
    write_status(
        run.path,
        Status(state=state, step=steps, max_steps=600, heartbeat=time.time(), metrics=metrics, exit_reason=exit_reason),
    )
    return run


@pytest.fixture
def start_fake(page: Page) -> Iterator[Callable[..., RunDirectory]]:
    """Starts the fake trainer on a new run; what still runs at the end is killed."""
    started: list[RunDirectory] = []

    def start(*flags: str) -> RunDirectory:
        run = RunStore(page.runs_dir).create(load_config(preset="geometric_lambda"))
        command = [sys.executable, str(FAKE_TRAINER), str(run.path.resolve()), *flags]
        launch.start(run.path, command=command)
        started.append(run)
        wait_for(lambda: (read_status(run.path) or Status("starting")).step > 0 or run.state() == "failed")
        return run

    yield start
    for run in started:
        launch.escalate_stop(run.path, patience_s=0.2)


def wait_for(holds: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """The first true value of `holds`; fails after the timeout."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = holds()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A running server on empty folders; its trainers are stopped at the end."""
    site = Site(tmp_path)
    site.start()
    yield site
    site.kill()
    store = RunStore(site.runs_dir)
    for run_id in store.ids():
        launch.escalate_stop(store.runs_dir / run_id, patience_s=0.5)


@pytest.fixture(scope="session")
def chrome(playwright: Any) -> Iterator[Any]:
    """A real browser, one for all tests."""
    executable = chromium()
    if executable is None:
        pytest.skip("no chromium on this machine")
    browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
    yield browser
    browser.close()


@pytest.fixture
def visit(site: Site, chrome: Any) -> Iterator[Callable[..., Watched]]:
    """Opens pages of the site; at the end none may have had a console error or a foreign request."""
    opened: list[Watched] = []
    contexts: list[Any] = []

    def open_page(path: str = "", **options: Any) -> Watched:
        context = chrome.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(30_000 * min(5.0, load_factor()))
        watched = Watched(context.new_page(), site.address)
        opened.append(watched)
        watched.page.goto(site.address + path)
        watched.page.wait_for_selector("#run-status .run-title")
        return watched

    yield open_page
    for context in contexts:
        context.close()
    assert [wrong for watched in opened for wrong in watched.wrong] == []


@pytest.fixture(scope="session")
def trained_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with one real run of 60 small steps and two checkpoints, trained once."""
    runs_dir = tmp_path_factory.mktemp("trained")
    flags = [part for override in [*SMALL_OVERRIDES, "train.max_steps=60"] for part in ("--set", override)]
    command = [sys.executable, "-m", "moe_hub.train", "--preset", "geometric_lambda", "--runs-dir", str(runs_dir)]
    subprocess.run([*command, *flags], check=True, capture_output=True, timeout=900)
    return runs_dir


@pytest.fixture
def trained_site(site: Site, trained_runs: Path) -> Site:
    """The site with a copy of the trained run."""
    shutil.copytree(trained_runs, site.runs_dir, dirs_exist_ok=True)
    return site
