"""Follows metrics.jsonl while it grows: each call reads only what is new."""

from __future__ import annotations

import os
from bisect import bisect_left
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
import yaml

from moe_hub.runs.history import RunHistory, freeze
from moe_hub.runs.status import STATUS_FILE, read_status
from moe_hub.runs.writer import METRICS_FILE

CHUNK = 1 << 22
TAIL = 64  # bytes before the offset that must still be there, or the file was replaced


class MetricReader:
    """Reads the metrics of one run; `path` is metrics.jsonl or the run directory.

    A row of a newer attempt, or one whose step is below the last, supersedes every earlier row with its step or
    a later one, so each step stands once, from the newest attempt. Rows with the same step in the same attempt
    are merged. `bad_lines` counts finished lines that are no rows; they are skipped.
    """

    def __init__(self, path: Path) -> None:
        path = Path(path)
        self.path = path / METRICS_FILE if path.is_dir() else path
        self.bad_lines = 0
        self._inode: tuple[int, int] | None = None
        self._history: RunHistory | None = None
        self._stamp: tuple[Any, ...] | None = None
        self._version = 0
        self._reset()

    def poll(self) -> bool:
        """Reads the finished lines that are new; True if there were any, or if the file began again."""
        try:
            with self.path.open("rb", buffering=0) as file:
                return self._follow(file.fileno())
        except OSError:
            return False

    def history(self) -> RunHistory:
        """Everything read so far, with the config and status of now; the same object while nothing changed."""
        folder = self.path.parent
        stamp = (self._version, _stamp(folder / "config.yaml"), _stamp(folder / STATUS_FILE))
        if self._history is None or stamp != self._stamp:
            same_config = self._history is not None and self._stamp is not None and self._stamp[1] == stamp[1]
            config = self._history.config if self._history and same_config else _read_config(folder / "config.yaml")
            self._history = RunHistory(folder.name, config, read_status(folder), tuple(self._rows))
            self._stamp = stamp
        return self._history

    def _reset(self) -> None:
        self._offset = 0
        self._tail = b""
        self._rows: list[MappingProxyType[str, Any]] = []
        self._steps: list[int] = []
        self._attempt = 0
        self.bad_lines = 0

    def _follow(self, descriptor: int) -> bool:
        info = os.fstat(descriptor)
        inode = (info.st_dev, info.st_ino)
        changed = False
        if self._inode not in (None, inode) or info.st_size < self._offset or not self._tail_stands(descriptor):
            self._reset()
            changed = True
        self._inode = inode
        while lines := self._next_lines(descriptor):
            for line in lines.split(b"\n"):
                if line.strip():
                    self._add(line)
            changed = True
        self._version += changed
        return changed

    def _tail_stands(self, descriptor: int) -> bool:
        return os.pread(descriptor, len(self._tail), self._offset - len(self._tail)) == self._tail

    def _next_lines(self, descriptor: int) -> bytes:
        """New bytes up to the last newline, at most about `CHUNK` of them unless one line is longer."""
        content = b""
        while piece := os.pread(descriptor, CHUNK, self._offset + len(content)):
            content += piece
            if b"\n" in piece:
                break
        end = content.rfind(b"\n") + 1
        content = content[:end]
        self._offset += end
        self._tail = (self._tail + content[-TAIL:])[-TAIL:]
        return content

    def _add(self, line: bytes) -> None:
        row = _parse(line)
        if row is None:
            self.bad_lines += 1
            return
        step, attempt = row["step"], row.get("attempt", 0)
        if attempt < self._attempt:
            return
        if attempt > self._attempt or (self._steps and step < self._steps[-1]):
            self._supersede(step)
        self._attempt = attempt
        if self._steps and step == self._steps[-1]:
            self._rows[-1] = MappingProxyType({**self._rows[-1], **freeze(row)})
        else:
            self._rows.append(freeze(row))
            self._steps.append(step)

    def _supersede(self, step: int) -> None:
        first = bisect_left(self._steps, step)
        del self._steps[first:], self._rows[first:]


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = orjson.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or not _is_count(row.get("step")) or not _is_count(row.get("attempt", 0)):
        return None
    return row


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_ino, info.st_mtime_ns, info.st_size


def _read_config(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}
