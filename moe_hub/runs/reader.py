"""Follows metrics.jsonl while it grows: each call reads only what is new."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import yaml

from moe_hub.config.text import parse_yaml
from moe_hub.runs import column_cache
from moe_hub.runs.column_cache import Place
from moe_hub.runs.columns import Snapshot
from moe_hub.runs.files import open_regular, read_regular
from moe_hub.runs.history import RunHistory
from moe_hub.runs.ingest import Ingest, parse_lines
from moe_hub.runs.status import STATUS_FILE, Status, read_status
from moe_hub.runs.writer import METRICS_FILE

CHUNK = 1 << 20  # of JSON: what its rows take as dictionaries still fits the processor's cache
TAIL = 64  # bytes before the offset that must still be there, or the file was replaced
CACHE_FROM = 8 << 20  # bytes read from which a cache of the columns is worth its place on disk
_CONFIG_FILE, _NOTES_FILE = "config.yaml", "notes.json"


class MetricReader:
    """Reads the metrics of one run; `path` is metrics.jsonl or the run directory. The rules for rows that repeat a
    step stand in `ingest`. `bad_lines` counts finished lines that are no rows; they are skipped.

    `cache` lets a long file leave its columns in a hidden file beside it, from which the next reader begins; a folder
    that cannot be written does without. Not safe for threads: one owner, see `LiveReader`.
    """

    def __init__(self, path: Path, *, cache: bool = True) -> None:
        path = Path(path)
        self.path = path / METRICS_FILE if path.is_dir() else path
        self.cache = cache
        self.bad_lines = 0
        self.generation = 0
        self._files = _Files(self.path.parent)
        self._history: RunHistory | None = None
        self._snapshot: Snapshot | None = None
        self._seen: tuple[int, int, int] | None = None
        self._cached_to = 0
        self._reset()

    def poll(self) -> bool:
        """Reads the finished lines that are new; True if there were any, or if the file began again."""
        found = stamp_of(self.path)
        if found is None or found == self._seen:  # nothing was written: no file is opened
            return False
        try:
            with open_regular(self.path) as file:
                changed = self._follow(file.fileno())
        except OSError:
            return False
        # As the file was before it was read: what came in meanwhile is found by the next call.
        self._seen = found
        return changed

    def history(self) -> RunHistory:
        """Everything read so far, with the config, label and status of now; the same object while nothing changed."""
        changed = self._files.refresh()
        if self._snapshot is None:
            self._snapshot, changed = self._ingest.table.snapshot(), True
        if self._history is None or changed:
            version = f"{self.generation}-{self._inode}-{self._offset}-{self._files.version}"
            self._history = RunHistory(
                self.path.parent.name, self._files.config, self._files.status, snapshot=self._snapshot,
                label=self._files.label, version=version,
            )  # fmt: skip
        return self._history

    @property
    def nbytes(self) -> int:
        """Memory that the columns take."""
        return self._ingest.table.nbytes

    def _reset(self) -> None:
        self._inode: tuple[int, int] | None = None
        self._offset = 0
        self._tail = b""
        self._ingest = Ingest()
        self._snapshot = None
        self._cached_to = 0
        self.bad_lines = 0

    def _follow(self, descriptor: int) -> bool:
        info = os.fstat(descriptor)
        inode = (info.st_dev, info.st_ino)
        changed = False
        if self._inode is not None and (
            self._inode != inode or info.st_size < self._offset or not self._tail_stands(descriptor)
        ):
            self._reset()
            self.generation += 1
            changed = True
        if self._inode is None:
            self._inode = inode
            if self.cache and info.st_size >= CACHE_FROM:
                changed |= self._take(column_cache.load(self.path, descriptor))
        while lines := self._next_lines(descriptor):
            rows, bad = parse_lines(lines)
            self._ingest.add(rows)
            self.bad_lines += bad
            changed = True
        if changed:
            self._snapshot = None
        if self.cache and self._offset - self._cached_to >= max(CACHE_FROM, self._cached_to // 4):
            self._save(descriptor)
        return changed

    def _tail_stands(self, descriptor: int) -> bool:
        return os.pread(descriptor, len(self._tail), self._offset - len(self._tail)) == self._tail

    def _next_lines(self, descriptor: int) -> bytes:
        """New bytes up to the last newline, at most about `CHUNK` of them unless one line is longer."""
        pieces = []
        size = 0
        while piece := os.pread(descriptor, CHUNK, self._offset + size):
            pieces.append(piece)
            size += len(piece)
            if b"\n" in piece:
                break
        content = b"".join(pieces)
        content = content[: content.rfind(b"\n") + 1]
        self._offset += len(content)
        self._tail = (self._tail + content[-TAIL:])[-TAIL:]
        return content

    def _take(self, found: tuple[Place, Ingest] | None) -> bool:
        if found is None:
            return False
        place, self._ingest = found
        self._offset = self._cached_to = place.offset
        self._tail, self.bad_lines = place.tail, place.bad_lines
        return True

    def _save(self, descriptor: int) -> None:
        self._cached_to = self._offset  # also where it cannot be written: the next try comes with as many bytes again
        column_cache.save(self.path, descriptor, Place(self._offset, self._tail, self.bad_lines), self._ingest)


class _Files:
    """The small files of a run that a history shows, read again when they change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: dict[str, Any] = {}
        self.status: Status | None = None
        self.label = ""
        self._paths = {name: os.fspath(folder / name) for name in (_CONFIG_FILE, STATUS_FILE, _NOTES_FILE)}
        self._stamps: dict[str, tuple[int, int, int] | None] = {}

    def refresh(self) -> bool:
        """True if one of them changed."""
        stamps = {name: stamp_of(path) for name, path in self._paths.items()}
        changed = {name for name, stamp in stamps.items() if name not in self._stamps or self._stamps[name] != stamp}
        self._stamps = stamps
        if _CONFIG_FILE in changed:
            self.config = _read_config(self.folder / _CONFIG_FILE)
        if STATUS_FILE in changed:
            self.status = read_status(self.folder)
        if _NOTES_FILE in changed:
            self.label = _read_label(self.folder / _NOTES_FILE)
        return bool(changed)

    @property
    def version(self) -> str:
        """Of what figures show: the status, with its heartbeat every second, is not in it."""
        return f"{self._stamps.get(_CONFIG_FILE)}-{self.label}"


def stamp_of(path: os.PathLike[str] | str) -> tuple[int, int, int] | None:
    """Changes when a file does; None where there is none."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_ino, info.st_mtime_ns, info.st_size


def _read_config(path: Path) -> dict[str, Any]:
    try:
        values = parse_yaml(read_regular(path).decode("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}


def _read_label(path: Path) -> str:
    try:
        values = orjson.loads(read_regular(path))
    except (OSError, ValueError):
        return ""
    label = values.get("label") if isinstance(values, dict) else None
    return label if isinstance(label, str) else ""
