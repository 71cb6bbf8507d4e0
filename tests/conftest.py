"""What tests of several folders share: one driver of the browser, because Playwright runs only one in a process;
and disks of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


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
