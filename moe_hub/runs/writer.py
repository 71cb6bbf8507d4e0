"""Appends rows to metrics.jsonl. A row that the disk has no room for waits in memory until it has."""

from __future__ import annotations

import contextlib
import errno
import os
import time as clock
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from moe_hub.runs.files import to_json

METRICS_FILE = "metrics.jsonl"
MOST_WAITING = 4 << 20  # bytes of rows that wait in memory; later ones are dropped
_TAIL = 1 << 16  # bytes at the end of the file in which the attempt of the last row is looked for first


class MetricWriter:
    """The one writer of a run's metrics.

    Rows that cannot be written wait and go first when they can; `problem` says why, and is empty while all is well.
    `attempt` is the number of this attempt at the run: the given one, or one more than the newest in the file where
    that is higher (a status lost with the power), for readers drop the rows of an older attempt.
    """

    def __init__(self, run_dir: Path, attempt: int = 0) -> None:
        self.path = Path(run_dir) / METRICS_FILE
        self.attempt = attempt
        self.problem = ""
        self._dropped = 0
        self._waiting: deque[bytes] = deque()
        self._descriptor: int | None = None
        self._torn = False
        self._closed = False
        descriptor = self._open()
        newest = _newest_attempt(descriptor) if descriptor is not None else 0
        if newest > attempt:
            self.attempt = newest + 1

    def write(self, step: int, values: Mapping[str, Any], *, tokens: int = 0, time: float | None = None) -> None:
        """Appends one row with a single system call; `values` are scalars, nested lists or arrays.

        Where it cannot be written it waits. Raises `TypeError` for a value that no row can hold.
        """
        row: dict[str, Any] = {"step": int(step), "time": clock.time() if time is None else float(time)}
        row["tokens"] = int(tokens)
        if self.attempt > 0:
            row["attempt"] = self.attempt
        line = to_json({**row, **values, **row}) + b"\n"  # a metric cannot take the place of one of these
        if not self._waiting and self._append(line):
            return
        if self._closed or sum(map(len, self._waiting)) + len(line) > MOST_WAITING:
            self._dropped += 1
        else:
            self._waiting.append(line)
            self.flush()

    def flush(self) -> bool:
        """Writes the rows that wait, oldest first; True where none is left."""
        while self._waiting and self._append(self._waiting[0]):
            self._waiting.popleft()
        return not self._waiting

    @property
    def lost_rows(self) -> int:
        """Rows that are not in the file: those that wait, and those that were dropped."""
        return self._dropped + len(self._waiting)

    def close(self) -> None:
        """Closes the file after a last try to write what waits; rows written later are dropped."""
        self.flush()
        self._closed = True
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ready(self) -> bool:
        if self._closed:
            return False
        if self._descriptor is not None and _removed(self._descriptor):
            self._release()  # rows written to it would vanish without a word
        return self._descriptor is not None or self._open() is not None

    def _release(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with contextlib.suppress(OSError):  # a network disk reports here what it could not keep
                os.close(descriptor)

    def _open(self) -> int | None:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            self.problem = error.strerror or str(error)
            return None
        self._descriptor = descriptor
        try:
            size = os.fstat(descriptor).st_size
            self._torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        except OSError:
            self._torn = True
        return descriptor

    def _append(self, line: bytes) -> bool:
        if not self._ready():
            return False
        # After a row that went to disk only in part, a newline ends that part, so the next row stays whole.
        content = b"\n" + line if self._torn else line
        assert self._descriptor is not None
        try:
            written = os.write(self._descriptor, content)
        except OSError as error:
            self.problem = error.strerror or str(error)
            return False
        if written == len(content):
            self._torn = False
            self.problem = ""
            return True
        self.problem = os.strerror(errno.ENOSPC)
        self._take_back(written)
        return False

    def _take_back(self, written: int) -> None:
        """Cuts off the part of a row that the disk had room for, so that the file ends as it did before."""
        assert self._descriptor is not None
        try:
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
        except OSError:
            self._torn = True


def _removed(descriptor: int) -> bool:
    try:
        return os.fstat(descriptor).st_nlink == 0
    except OSError:
        return True


def _newest_attempt(descriptor: int) -> int:
    """The attempt of the last whole row; 0 where there is none."""
    with contextlib.suppress(OSError):
        size = os.fstat(descriptor).st_size
        tail = _TAIL
        while size:
            lines = os.pread(descriptor, tail, max(0, size - tail)).split(b"\n")
            for line in reversed(lines[:-1]):  # what follows the last newline is no whole row
                if (attempt := _attempt_of(line)) is not None:
                    return attempt
            if tail >= size:
                break
            tail *= 16
    return 0


def _attempt_of(line: bytes) -> int | None:
    try:
        row = orjson.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        return None
    attempt = row.get("attempt", 0)
    return attempt if isinstance(attempt, int) else None
