"""`moe-hub watch` on a run of 1,000,000 rows: its first screen comes at once, and idling costs nearly nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from pty_screen import Terminal

from moe_hub.config import load_config
from moe_hub.runs.status import Status, process_identity, write_status
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.runs.writer import METRICS_FILE

ROWS = 1_000_000
FIRST_SCREEN_S = 1.5  # CPU seconds here: on an idle machine they are what a person waits for
IDLE_SHARE = 0.03
IDLE_S = 10.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run that this process seems to train, at its last row."""
    store = RunStore(tmp_path_factory.mktemp("long"))
    run = store.create(load_config("basic_comparison"))
    with (run.path / METRICS_FILE).open("wb") as file:
        for first in range(0, ROWS, 10_000):
            file.write(b"".join(
                b'{"step":%d,"time":%d,"tokens":%d,"train/loss":%.5f,"val/loss":%.5f,"time/step_s":0.05,'
                b'"time/tokens_per_s":9000.0,"optim/grad_norm_total":1.25}\n'
                % (step, 10**9 + step, step * 2048, 1 + 1e6 / (step + 1e6), 1.1 + 1e6 / (step + 1e6))
                for step in range(first, first + 10_000)
            ))  # fmt: skip
    beat = Status(state="running", step=ROWS, max_steps=2 * ROWS, heartbeat=time.time(), **process_identity())
    write_status(run.path, beat)
    return run


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal of 100 x 30."""
    terminal = Terminal((100, 30))
    terminal.wait("ready>")
    yield terminal
    terminal.close()


def watcher(terminal: Terminal) -> psutil.Process:
    """The process that watches."""
    while True:
        for process in psutil.Process(terminal.child.pid).children():
            if "watch" in process.cmdline():
                return process
        time.sleep(0.01)


def cpu_s(process: psutil.Process) -> float:
    """User and system seconds of all its threads."""
    times = process.cpu_times()
    return float(times.user + times.system)


def test_first_screen_and_idle_cost(long_run: RunDirectory, terminal: Terminal, slowdown: Callable[[], float]) -> None:
    terminal.run(["watch", "latest", "--runs-dir", str(long_run.path.parent)])
    begin = time.monotonic()
    process = watcher(terminal)
    terminal.wait(lambda: terminal.shows(r"[⠁-⣿]"))
    first, waited = cpu_s(process), time.monotonic() - begin
    terminal.wait(lambda: terminal.shows("running: step 1,000,000 of 2,000,000"))
    terminal.wait(lambda: (long_run.path / f".{METRICS_FILE.partition('.')[0]}.columns").exists(), 300)  # all is read
    terminal.wait(lambda: terminal.shows(r"^ +0 .* 999,999$"))
    time.sleep(2)
    before, since = cpu_s(process), time.monotonic()
    time.sleep(IDLE_S)
    share = (cpu_s(process) - before) / (time.monotonic() - since)
    print(f"first screen: {waited:.2f} s, {first:.2f} s of CPU; idle: {share:.2%} of a core")
    assert first < FIRST_SCREEN_S * slowdown()
    assert share < IDLE_SHARE


def test_with_the_cache_of_the_columns(
    long_run: RunDirectory, terminal: Terminal, slowdown: Callable[[], float]
) -> None:
    assert (long_run.path / ".metrics.columns").exists()
    terminal.run(["watch", "latest", "--runs-dir", str(long_run.path.parent)])
    begin = time.monotonic()
    process = watcher(terminal)
    terminal.wait(lambda: terminal.shows(r"[⠁-⣿]"))
    first, waited = cpu_s(process), time.monotonic() - begin
    print(f"first screen with the cache: {waited:.2f} s, {first:.2f} s of CPU")
    assert first < FIRST_SCREEN_S * slowdown()
