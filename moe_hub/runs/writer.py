"""Appends rows to metrics.jsonl. A full disk costs rows, never the run."""

from __future__ import annotations

import os
import time as clock
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from moe_hub.runs.files import plain

METRICS_FILE = "metrics.jsonl"


class MetricWriter:
    """The one writer of a run's metrics. `lost_rows` counts the rows that could not be written."""

    def __init__(self, run_dir: Path, attempt: int = 0) -> None:
        self.path = Path(run_dir) / METRICS_FILE
        self.attempt = attempt
        self.lost_rows = 0
        self._descriptor: int | None = None
        self._torn = False
        self._closed = False
        self._open()

    def write(self, step: int, values: Mapping[str, Any], *, tokens: int = 0, time: float | None = None) -> None:
        """Appends one row with a single system call; `values` are scalars, nested lists or arrays."""
        row = {"step": int(step), "time": clock.time() if time is None else float(time), "tokens": int(tokens)}
        if self.attempt > 0:
            row["attempt"] = self.attempt
        line = orjson.dumps(plain({**row, **values})) + b"\n"
        if self._closed or (self._descriptor is None and not self._open()):
            self.lost_rows += 1
            return
        self._append(line)

    def close(self) -> None:
        """Closes the file; rows written later are counted as lost."""
        self._closed = True
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> bool:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError:
            return False
        self._descriptor = descriptor
        try:
            size = os.fstat(descriptor).st_size
            self._torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            if self._torn:
                self._torn = os.write(descriptor, b"\n") != 1
        except OSError:
            self._torn = True
        return True

    def _append(self, line: bytes) -> None:
        # After a row that went to disk only in part, a newline ends that part, so the next row stays whole.
        content = b"\n" + line if self._torn else line
        assert self._descriptor is not None
        try:
            written = os.write(self._descriptor, content)
        except OSError:
            self.lost_rows += 1
            return
        self._torn = written != len(content)
        if self._torn:
            self.lost_rows += 1
