"""What tests of several folders share: one driver of the browser, because Playwright runs only one in a process;
disks of their own; and CPU times that mean the same on every machine."""

from __future__ import annotations

import gc
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

Clock: TypeAlias = Callable[[], float]

YARDSTICK_S = 0.0024  # what `_yardstick` takes on the machine that the limits were written on, undisturbed

gc.disable()  # while everything is imported, see moe_hub.imports; on again before the first test


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where other processes have to be in time, a failure is tried once more; the summary names it as RERUN, and it is
    then to be looked into. Unit tests are not: they have no such excuse."""
    if os.environ.get("CI"):
        for item in items:
            if any(item.get_closest_marker(name) for name in ("browser", "training", "slow")):
                item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(autouse=True)
def _own_variables() -> Iterator[None]:
    """What a command leaves in this process's environment is gone after its test."""
    before = {name: value for name, value in os.environ.items() if name.startswith("MOE_HUB")}
    yield
    for name in [name for name in os.environ if name.startswith("MOE_HUB") and name not in before]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def playwright() -> Iterator[Any]:
    """Starts browsers; each test file launches its own with the flags that it needs."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        yield driver


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """`make_disk("size=20m")`: a tmpfs with these options; skips where this process may not mount one."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        if os.geteuid() != 0:
            pytest.skip("only root may mount a disk")
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a disk cannot be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def cpu_s() -> Callable[..., float]:
    """`cpu_s(work)`: CPU seconds of one call of `work`, as the machine of the limits would take.

    The same code takes twice as long a second later where a neighbour shares the core, and on slower machines always.
    So a fixed piece of work is timed before each repeat, and the least time counts of both. A machine faster than that
    of the limits is not held to stricter ones. `clock`: `time.process_time` where other threads do a part.
    """

    def measure(work: Callable[[], object], *, repeats: int = 5, clock: Clock = time.thread_time) -> float:
        yards, took = [], []
        for _ in range(repeats):
            yards.append(_seconds(_yardstick, time.thread_time))
            took.append(_seconds(work, clock))
        return min(took) / _times_slower(yards)

    return measure


@pytest.fixture
def slowdown() -> Callable[[], float]:
    """`slowdown()`: how many times slower than the machine of the limits this one is now, at least 1; for CPU times of
    other processes, which cannot be repeated."""
    return lambda: _times_slower([_seconds(_yardstick, time.thread_time) for _ in range(5)])


def _times_slower(yards: list[float]) -> float:
    return max(1.0, min(yards) / YARDSTICK_S)


def _seconds(work: Callable[[], object], clock: Clock) -> float:
    begin = clock()
    work()
    return clock() - begin


def _yardstick() -> None:
    """Trees, recursion, text and dictionaries, as in the code that is timed."""
    for _ in range(8):
        counts: dict[str, int] = {}
        for word in _written(_tree(14)).split():
            counts[word] = counts.get(word, 0) + 1


def _tree(depth: int) -> Any:
    return depth if depth < 2 else (_tree(depth - 1), _tree(depth - 2))


def _written(tree: Any) -> str:
    return str(tree) if isinstance(tree, int) else f"@ {_written(tree[0])} {_written(tree[1])}"
