"""A server of its own and a real browser for the tests of the page."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moe_hub.errors import RunError
from moe_hub.runs.store import RunDirectory, RunStore

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
# Settings of the form that make a real training small: seconds, not minutes.
SMALL = {
    "field-model-d_model": "32",
    "field-model-num_layers": "1",
    "field-data-num_train_samples": "400",
    "field-data-num_eval_samples": "40",
    "field-train-batch_size": "8",
    "field-train-eval_every": "50",
    "field-train-log_every": "1",
    "field-train-checkpoint_every": "40",
}
SMALL_OVERRIDES = [
    "model.d_model=32", "model.num_layers=1", "data.num_train_samples=400", "data.num_eval_samples=40",
    "train.batch_size=8", "train.eval_every=50", "train.log_every=1", "train.checkpoint_every=40", "train.threads=1",
]  # fmt: skip


def chromium() -> str | None:
    """The browser on this machine."""
    return shutil.which("chromium") or shutil.which("google-chrome")


class Site:
    """`python -m moe_hub.web` on a free port; it can be killed and started again on the same folders."""

    def __init__(self, folder: Path, patience_s: float | None = None) -> None:
        self.patience_s = patience_s
        self.runs_dir, self.data_dir = folder / "runs", folder / "data"
        self.log = folder / "server.log"
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._program(), "--port", str(self.port), "--runs-dir", str(self.runs_dir),
                 "--data-dir", str(self.data_dir)],
                stdout=log, stderr=log, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        try:
            until(lambda: _answers(self.address + "healthz"), 240)  # a second on an idle machine
        except BaseException:
            self.kill()  # nobody else knows of it yet
            raise

    def _program(self) -> list[str]:
        """The web command; with `patience_s` each stage of a stop lasts only that long."""
        if self.patience_s is None:
            return [sys.executable, "-m", "moe_hub.web"]
        code = (
            "import sys; from moe_hub.workbench.stops import Stops; from moe_hub.web.__main__ import main; "
            f"Stops.__init__.__defaults__ = ({self.patience_s},); sys.exit(main())"
        )
        return [sys.executable, "-c", code]

    def kill(self) -> None:
        """SIGKILL to the server and all that is in its session, as a crash or a closed terminal would do."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


class Watched:
    """A page that remembers what must not happen: console errors, requests to another host, failed answers."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.wrong: list[str] = []
        page.on("console", lambda line: self.wrong.append(f"console: {line.text}") if line.type == "error" else None)
        page.on("pageerror", lambda error: self.wrong.append(f"exception: {error}"))
        page.on("request", lambda asked: self._check(asked.url, address))

    def _check(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            self.wrong.append(f"foreign request: {url}")


def until(holds: Callable[[], Any], timeout_s: float = 60.0, every_s: float = 0.1) -> Any:
    """The first true value of `holds`; fails after the timeout, which is longer on a busy machine."""
    timeout_s *= min(5.0, load_factor())
    deadline = time.monotonic() + timeout_s
    value = None
    while time.monotonic() < deadline:
        value = holds()
        if value:
            return value
        time.sleep(every_s)
    raise AssertionError(f"it did not happen within {timeout_s:.0f} s; last value: {value!r}")


def drawn_points(page: Any) -> int:
    """Points in the first trace of the live figure, 0 where none is drawn."""
    return int(
        page.evaluate(
            """() => {
                const host = document.getElementById("live-figure");
                const trace = host && host._fullData && host.calcdata && host._fullData[0];
                return trace && trace.x ? trace.x.length : 0;
            }"""
        )
    )


def newest_run(site: Site) -> RunDirectory:
    """The newest run, as soon as it is one."""
    store = RunStore(site.runs_dir)

    def found() -> RunDirectory | None:
        with contextlib.suppress(RunError, IndexError):
            return store.open(store.ids()[0])
        return None

    run: RunDirectory = until(found)
    return run


def fill_small(page: Any, **more: str) -> None:
    """Makes the form's config small; fields inside folded parts are filled as well."""
    page.evaluate("() => document.querySelectorAll('#configuration details').forEach((each) => { each.open = true; })")
    for field, value in {**SMALL, **{f"field-{name}": value for name, value in more.items()}}.items():
        page.fill(f"#{field}", value)


def status(page: Any) -> str:
    """The text of the status line."""
    return str(page.inner_text("#run-status"))


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def load_factor() -> float:
    """How much longer than on an idle machine something may take now: what waits for each core."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def run_in_thread(server: Any) -> None:
    """Runs a waitress server in a thread of this process until somebody closes it."""

    def run() -> None:
        with contextlib.suppress(OSError):  # it waits for sockets that `close` takes away under it
            server.run()

    threading.Thread(target=run, daemon=True).start()
