"""The trainer's side of a run directory: metric rows, status with heartbeat, log, and what a terminal shows."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tqdm import tqdm

from moe_hub.runs.status import Status, process_identity, read_status, write_status
from moe_hub.runs.store import LOG_FILE
from moe_hub.runs.writer import MetricWriter
from moe_hub.train.failure import FolderLost

HEARTBEAT_S = 2.0
LOST_PATIENCE_S = 30.0  # a network disk may come back
LINE_EVERY_S = 10.0  # in a log; a terminal has a bar instead


class RunRecord:
    """Writes what happens. What a full disk has no room for waits, see `trouble`."""

    def __init__(self, run_dir: Path, max_steps: int, *, keep_attempt: bool = False) -> None:
        before = read_status(run_dir)
        attempt = before.attempt + 1 if before is not None and keep_attempt else 0
        self.run_dir = run_dir
        self.status = Status(
            state="starting",
            max_steps=max_steps,
            attempt=attempt,
            step=before.step if before else 0,
            metrics=dict(before.metrics) if before else {},
            heartbeat=time.time(),
            **process_identity(),
        )
        self.writer = MetricWriter(run_dir, attempt)
        self.status = replace(self.status, attempt=self.writer.attempt)  # higher where the status had been lost
        self.process = psutil.Process()
        self.process.cpu_percent()
        self._terminal = sys.stderr.isatty()
        self._own_log = not _is_log(run_dir / LOG_FILE)
        self._bar: tqdm[Any] | None = None
        self._last_line = 0.0
        self.update(force=True)

    def update(self, *, force: bool = False, **changes: Any) -> None:
        """Changes the status and writes it, at once where a state changes or `force`, else at heartbeats."""
        now = time.time()
        due = force or "state" in changes or abs(now - self.status.heartbeat) >= HEARTBEAT_S
        self.status = replace(self.status, **changes, heartbeat=now if due else self.status.heartbeat)
        if due:
            self.writer.flush()
            try:
                write_status(self.run_dir, self.status)
            except OSError as error:
                self.say(f"warning: status cannot be written: {error.strerror}")

    def row(self, step: int, tokens: int, values: Mapping[str, Any]) -> None:
        """Appends a metric row and keeps its scalars in the status."""
        waiting = self.writer.lost_rows
        self.writer.write(step, values, tokens=tokens)
        if self.writer.lost_rows and not waiting:
            self.say(f"warning: {self.trouble()}")
        scalars = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
        self.update(step=step, metrics={**self.status.metrics, **scalars})

    def trouble(self) -> str:
        """Why rows cannot be written at this moment; empty where they can."""
        if not self.writer.lost_rows or self.writer.flush():
            return ""
        return f"metrics cannot be written: {self.writer.problem}; {self.writer.lost_rows} rows wait in memory"

    def require_folder(self) -> None:
        """Raises `FolderLost` where the run directory is gone and does not come back for a while."""
        if self.run_dir.is_dir():
            return
        self.say(f"warning: {self.run_dir} is gone; waiting {LOST_PATIENCE_S:.0f} s for it")
        deadline = time.monotonic() + LOST_PATIENCE_S
        while time.monotonic() < deadline:
            time.sleep(0.2)
            if self.run_dir.is_dir():
                return
        raise FolderLost(f"the run's folder {self.run_dir} was removed or moved while it trained, so it has ended")

    def progress(self, step: int, text: str) -> None:
        """Moves the bar of a terminal; in a log, a line every few seconds."""
        if self._terminal:
            if self._bar is None:
                self._bar = tqdm(total=self.status.max_steps, initial=step, unit="step", dynamic_ncols=True)
            self._bar.update(step - self._bar.n)
            self._bar.set_postfix_str(text, refresh=False)
        elif time.monotonic() - self._last_line >= LINE_EVERY_S or step == self.status.max_steps:
            self._last_line = time.monotonic()
            self.say(f"step {step}/{self.status.max_steps}  {text}")

    def say(self, line: str) -> None:
        """A line to the terminal and to log.txt."""
        if self._bar is not None:
            self._bar.clear()
        # A full disk, under the log or under what the output goes to, must not end the run.
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)
        if self._own_log:
            with contextlib.suppress(OSError), (self.run_dir / LOG_FILE).open("a", encoding="utf-8") as log:
                log.write(f"{line}\n")

    def system(self) -> dict[str, float]:
        """CPU use since the last call (100 = one core) and resident memory."""
        memory = self.process.memory_info().rss / 1e6
        return {"system/cpu_percent": self.process.cpu_percent(), "system/memory_mb": memory}

    def close(self, **final: Any) -> None:
        """Writes the last status and closes the files."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self.update(force=True, **final)
        self.writer.close()


class SilentRecord(RunRecord):
    """That of a process which leaves the run directory to rank 0."""

    def __init__(self, run_dir: Path, max_steps: int) -> None:
        self.run_dir, self.status = run_dir, Status(state="starting", max_steps=max_steps)

    def update(self, *, force: bool = False, **changes: Any) -> None:
        """Changes nothing."""

    def row(self, step: int, tokens: int, values: Mapping[str, Any]) -> None:
        """Writes nothing."""

    def trouble(self) -> str:
        """None: it writes nothing."""
        return ""

    def require_folder(self) -> None:
        """Leaves it to rank 0."""

    def progress(self, step: int, text: str) -> None:
        """Shows nothing."""

    def say(self, line: str) -> None:
        """Says nothing."""

    def system(self) -> dict[str, float]:
        """Measures nothing."""
        return {}

    def close(self, **final: Any) -> None:
        """Has nothing open."""


def loggable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors as numbers or arrays of five significant digits: a row stays short and loses nothing that shows."""
    return {name: _short(value) for name, value in values.items()}


def _short(value: Any) -> Any:
    if hasattr(value, "detach"):
        value = value.detach().float().cpu().numpy()
    if isinstance(value, np.ndarray):
        return _short(value.item()) if value.ndim == 0 else [_short(item) for item in value]
    if isinstance(value, np.floating):
        value = float(value)
    return float(f"{value:.5g}") if isinstance(value, float) and math.isfinite(value) else value


def _is_log(path: Path) -> bool:
    """Whether this process's error output already goes to that file, as it does under the launcher."""
    try:
        ours, theirs = os.fstat(sys.stderr.fileno()), path.stat()
    except (OSError, ValueError):
        return False
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)
