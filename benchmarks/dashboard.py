"""The real server in a process of its own, and the real browser that looks at it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import psutil

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
START_PATIENCE_S = 600.0
HOST = "document.getElementById('live-figure')"
# Notes when each figure of the live path was on the screen: after the frame that follows the drawing.
WATCH = """() => {
  const host = document.getElementById('live-figure');
  window.benchDrawn = [];
  new MutationObserver(() => requestAnimationFrame(() => setTimeout(() => {
    const steps = (host._fullData || []).map((trace) => (trace.x && trace.x.length ? trace.x[trace.x.length - 1] : -1));
    window.benchDrawn.push([Date.now() / 1000, Math.max(-1, ...steps.map(Number))]);
  }))).observe(host, {attributes: true, attributeFilter: ['data-drawn']});
}"""


class Dashboard:
    """`python -m moe_hub.web` on a free port. Use as a context manager; the server ends with it."""

    def __init__(self, runs_dir: Path, data_dir: Path, port: int = 0) -> None:
        self.port = port or _free_port()
        self.address = f"http://127.0.0.1:{self.port}/"
        self._log = data_dir.with_suffix(".log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "moe_hub.web", "--port", str(self.port), "--runs-dir", str(runs_dir),
             "--data-dir", str(data_dir)],
            stdout=self._log, stderr=self._log, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def __enter__(self) -> Self:
        try:
            until(self._answers, START_PATIENCE_S)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the server."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()

    def get(self, path: str, **query: object) -> bytes:
        """The body of an answer."""
        address = f"{self.address}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=120) as answer:
            return bytes(answer.read())

    def cpu_s(self) -> float:
        """CPU seconds of the server so far."""
        return cpu_of([psutil.Process(self.process.pid)])

    def memory_mb(self) -> tuple[float, float]:
        """Resident memory of the server with its children, and the part that no other process shares (MB)."""
        root = psutil.Process(self.process.pid)
        found = [one.memory_full_info() for one in (root, *root.children(recursive=True))]
        return sum(one.rss for one in found) / 1e6, sum(one.uss for one in found) / 1e6

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the server ended with {self.process.returncode}; its log is {self._log.name}")
        with contextlib.suppress(OSError):
            return bool(self.get("healthz"))
        return False


@contextlib.contextmanager
def browser(driver: Any = None) -> Iterator[Any]:
    """A real chromium, started by this Playwright driver or by one of its own; raises `RuntimeError` where there is
    none."""
    from playwright.sync_api import sync_playwright

    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        raise RuntimeError("no chromium on this machine; install it with: make browser")
    own = sync_playwright() if driver is None else contextlib.nullcontext(driver)
    with own as playwright:
        found = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield found
        finally:
            found.close()


def open_page(found: Any, address: str, query: str) -> Any:
    """A tab on the dashboard that notes when it draws."""
    page = found.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{address}?{query}")
    page.wait_for_selector("#live-figure")
    page.evaluate(WATCH)
    return page


def draws(page: Any) -> list[tuple[float, float]]:
    """Time (unix s) and last x of every drawing since the tab was opened."""
    return [(float(at), float(x)) for at, x in page.evaluate("() => window.benchDrawn")]


def browser_processes() -> list[psutil.Process]:
    """The processes of the browser that this process started."""
    found = psutil.Process().children(recursive=True)
    return [one for one in found if one.is_running() and "chrom" in one.name()]


def browser_cpu_s() -> float:
    """CPU seconds of the browser so far, all its processes together."""
    return cpu_of(browser_processes())


def cpu_of(processes: list[psutil.Process]) -> float:
    """CPU seconds of processes so far."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def until(holds: Callable[[], Any], timeout_s: float = 60.0, every_s: float = 0.05) -> Any:
    """The first true value of `holds`; raises `TimeoutError`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = holds()
        if value:
            return value
        time.sleep(every_s)
    raise TimeoutError(f"it did not happen within {timeout_s:.0f} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
