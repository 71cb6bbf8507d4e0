"""The main job in a real browser with the real trainer: start, watch, pause, reload, resume, stop; what lives on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from browser import SMALL_OVERRIDES, Site, Watched, drawn_points, fill_small, newest_run, status, until

from moe_hub.runs.store import RunDirectory, RunStore

pytestmark = [pytest.mark.browser, pytest.mark.training, pytest.mark.timeout(400)]

Visit = Callable[..., Watched]


def start_on_page(site: Site, page: Any, steps: str = "20000") -> RunDirectory:
    fill_small(page, **{"train-max_steps": steps})
    until(lambda: page.is_enabled("#start-button") and steps in page.inner_text("#command-preview"))
    page.click("#start-button")
    run = newest_run(site)
    until(lambda: run.state() == "running", 120)
    return run


def test_start_watch_pause_reload_resume_stop(site: Site, visit: Visit) -> None:
    watched = visit()
    page = watched.page
    until(lambda: "Train your first model" in page.inner_text("#figure-empty"))
    run = start_on_page(site, page)
    until(lambda: "running" in status(page))
    first = until(lambda: drawn_points(page))
    until(lambda: drawn_points(page) > first)
    page.click("#pause-button")
    until(lambda: run.state() == "paused")
    until(lambda: "paused" in status(page))
    held = run.status()
    assert held is not None
    page.reload()
    until(lambda: "paused" in status(page))
    until(lambda: drawn_points(page) > 0)
    after = run.status()
    assert after is not None
    assert after.step == held.step
    second = visit().page  # another tab shows the same and may resume
    until(lambda: "paused" in status(second))
    until(lambda: drawn_points(second) == drawn_points(page))
    until(lambda: second.is_enabled("#resume-button"))
    second.click("#resume-button")
    until(lambda: (now := run.status()) is not None and now.step > held.step)
    until(lambda: "running" in status(page) and "running" in status(second))
    second.close()
    until(lambda: page.is_enabled("#save-button"))
    page.click("#save-button")
    until(run.checkpoints)
    page.click("#stop-button")
    until(lambda: run.state() == "stopped")
    until(lambda: "stopped" in status(page))
    assert run.checkpoints()


def test_it_goes_on_without_page_and_server_and_obeys_afterwards(site: Site, visit: Visit) -> None:
    watched = visit()
    run = start_on_page(site, watched.page)
    until(lambda: "running" in status(watched.page))
    watched.page.close()
    site.kill()
    before = run.status()
    assert before is not None
    until(lambda: (now := run.status()) is not None and now.step > before.step + 5)
    assert run.state() == "running"
    site.start()
    page = visit().page
    until(lambda: "running" in status(page))
    until(lambda: page.is_enabled("#stop-button"))
    page.click("#stop-button")
    until(lambda: run.state() == "stopped")
    until(lambda: "stopped" in status(page))


def test_a_run_from_a_shell_appears_live_in_two_tabs(site: Site, visit: Visit) -> None:
    pages = [visit().page, visit().page]
    flags = [part for override in [*SMALL_OVERRIDES, "train.max_steps=20000"] for part in ("--set", override)]
    command = [sys.executable, "-m", "moe_hub.train", "--preset", "geometric_lambda", "--runs-dir", str(site.runs_dir)]
    shell = subprocess.Popen([*command, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for page in pages:
            until(lambda page=page: "running" in status(page), 120)
            first = until(lambda page=page: drawn_points(page))
            until(lambda page=page, first=first: drawn_points(page) > first)
        shell.terminate()
        assert shell.wait(timeout=60) == 0
        for page in pages:
            until(lambda page=page: "stopped" in status(page))
    finally:
        shell.kill()


def test_a_failing_run_says_why_and_the_page_goes_on(site: Site, visit: Visit) -> None:
    page = visit().page
    missing = site.data_dir / "none.jsonl"
    missing.parent.mkdir(parents=True, exist_ok=True)
    missing.write_text('{"text": "hello hello hello"}\n' * 50)
    fill_small(page, **{"train-max_steps": "50"})
    page.uncheck("#field-train-lambda_cognitive-enabled")
    page.select_option("#field-data-source", "file")
    page.fill("#field-data-path", str(missing))
    until(lambda: str(missing) in page.inner_text("#command-preview"))
    until(lambda: page.is_enabled("#start-button") or page.inner_text("#validation-summary"))
    missing.unlink()
    page.click("#start-button", force=True)
    until(lambda: "none.jsonl" in page.inner_text("body"), 120)


def test_two_tabs_start_two_runs_and_a_reload_in_between_loses_neither(site: Site, visit: Visit) -> None:
    pages = [visit().page, visit().page]
    for number, page in enumerate(pages):
        fill_small(page, **{"train-max_steps": "20000"})
        page.fill("#field-name", f"tab{number}")
        until(lambda page=page, number=number: f"name=tab{number}" in page.inner_text("#command-preview"))
        until(lambda page=page: page.is_enabled("#start-button"))
    for page in pages:
        page.click("#start-button")
    store = RunStore(site.runs_dir)
    until(lambda: len(store.ids()) == 2)
    pages[0].reload()
    until(lambda: all(store.open(run_id).state() == "running" for run_id in store.ids()), 120)
    names = sorted(store.open(run_id).config().name for run_id in store.ids())
    assert names == ["tab0", "tab1"]
    until(lambda: "tab1" in status(pages[1]) and "running" in status(pages[1]))
    until(lambda: pages[0].locator("#run-table tbody tr").count() == 2)
    until(lambda: pages[1].is_enabled("#start-button"), 120)
    pages[1].click("#stop-button")
    mine = next(run_id for run_id in store.ids() if store.open(run_id).config().name == "tab1")
    until(lambda: store.open(mine).state() == "stopped")
    assert len(store.ids()) == 2


def test_a_killed_run_is_interrupted_and_resumed_with_one_click(site: Site, visit: Visit) -> None:
    page = visit().page
    run = start_on_page(site, page)
    until(run.checkpoints, 120)
    killed = run.status()
    assert killed is not None
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    until(lambda: run.state() == "interrupted")
    until(lambda: "interrupted" in status(page))
    assert "last checkpoint" in page.inner_text("#failure-card")
    until(lambda: page.is_enabled("#resume-button"))
    page.click("#resume-button")
    until(lambda: (now := run.status()) is not None and now.state == "running" and now.attempt > killed.attempt, 120)
    until(lambda: "running" in status(page))
    steps = page.evaluate("() => Array.from(document.getElementById('live-figure')._fullData[0].x)")
    assert steps == sorted(set(steps))
    page.click("#stop-button")
    until(lambda: run.state() == "stopped")


def test_two_processes_are_paused_resumed_and_stopped_from_the_page(site: Site, visit: Visit) -> None:
    page = visit().page
    fill_small(page, **{"train-max_steps": "20000", "train-parallel-processes": "2", "train-threads": "1"})
    until(lambda: page.is_enabled("#start-button") and "--nproc-per-node 2" in page.inner_text("#command-preview"))
    page.click("#start-button")
    run = newest_run(site)
    until(lambda: (now := run.status()) is not None and now.state == "running" and now.step > 1, 180)
    assert (begun := run.status()) is not None
    assert begun.world_size == 2
    until(lambda: page.is_enabled("#pause-button"))
    page.click("#pause-button")
    until(lambda: run.state() == "paused" and "paused" in status(page))
    until(lambda: page.is_enabled("#resume-button"))
    held = run.status()
    page.click("#resume-button")
    until(lambda: held is not None and (now := run.status()) is not None and now.step > held.step + 1)
    until(lambda: page.is_enabled("#stop-button"))
    page.click("#stop-button")
    until(lambda: run.state() == "stopped" and "stopped" in status(page), 120)
    assert run.checkpoints()
