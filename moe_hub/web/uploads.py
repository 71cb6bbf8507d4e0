"""Data files that a person brings: streamed to disk in chunks, under names that the server makes.

Everything about an upload under way lies on disk (`.upload-ID.part` holds what came, `.upload-ID.json` what is to
come), so that a killed server, a closed page and a broken connection all lead to the same place: the next chunk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import orjson

from moe_hub.errors import DataError

SUFFIXES = (".json", ".jsonl", ".txt", ".csv", ".tsv", ".parquet")
MOST_BYTES = 8 << 30
MOST_CHUNK = 16 << 20
SPARE_BYTES = 256 << 20  # left free on the disk for checkpoints
MOST_AT_ONCE = 16
IDLE_S = 600.0  # an upload with no chunk for this long makes way where there are too many
ABANDONED_S = 24 * 3600.0
COMPARED = 1 << 20  # bytes of what came before that are compared at once
MOST_FINISHED = 100  # uploads whose end is remembered, for a page that did not hear of it
_ID = re.compile(r"[0-9a-f]{16}")
_PARTIAL = re.compile(r"\.upload-([0-9a-f]{16})\.part")
_OURS = re.compile(r"\.upload-([0-9a-f]{16})\.(?:part|json)")


@dataclass(frozen=True)
class Announced:
    """What was said about a file when its upload began; `modified` (ms) is 0 where it is not known."""

    name: str
    size: int
    modified: int = 0


class Uploads:
    """`begin`, `append`, `discard` and `remove`; all raise `DataError`. A file appears under its name once whole."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        self._beginning = threading.Lock()
        self._finished: dict[str, dict[str, Any]] = {}

    def files(self) -> list[dict[str, Any]]:
        """Name, path, bytes and time of each whole file, the newest first."""
        found = []
        for path in self.folder.glob("*"):
            with contextlib.suppress(OSError):
                info = path.lstat()
                if path.suffix.lower() in SUFFIXES and path.is_file() and not path.is_symlink():
                    found.append({"name": path.name, "path": str(path), "bytes": info.st_size, "time": info.st_mtime})
        return sorted(found, key=lambda each: -float(str(each["time"])))

    def unfinished(self) -> list[dict[str, Any]]:
        """Uploads that have not come to their end: id, name, size, bytes received, time of the last chunk."""
        found = []
        for upload_id, announced, info in self._under_way():
            found.append({"upload": upload_id, "name": announced.name, "size": announced.size,
                          "received": info.st_size, "time": info.st_mtime})  # fmt: skip
        return sorted(found, key=lambda each: -float(str(each["time"])))

    def begin(self, name: str, size: int, modified: int = 0) -> dict[str, Any]:
        """{"upload", "received"} of an upload of `size` bytes.

        Where one of the same name, size and date (`modified`, ms; 0: unknown) was broken off, it is that one, and the
        next chunk is to begin at or before `received`.
        """
        suffix = Path(name).suffix.lower()
        if suffix not in SUFFIXES:
            raise DataError(f"{name[:100]!r}: allowed are files that end with {', '.join(SUFFIXES)}")
        if not 0 < size <= self.most_bytes:
            raise DataError(f"{name[:100]!r} has {size:,} bytes; allowed are 1 to {self.most_bytes:,}")
        announced = Announced(_plain_name(name), size, modified)
        self._make_folder()
        with self._beginning:
            self._drop_abandoned()
            for upload_id, known, info in self._under_way():
                if modified and known == announced:
                    return {"upload": upload_id, "received": info.st_size}
            self._require_room(name, size)
            return {"upload": self._open_new(announced), "received": 0}

    def state(self, upload_id: str) -> dict[str, Any]:
        """{"received"} of an upload, with name and path where it is whole."""
        if upload_id in self._finished:
            return self._finished[upload_id]
        with self._opened(upload_id) as (_, _, file):
            return {"received": os.fstat(file.fileno()).st_size}

    def append(self, upload_id: str, offset: int, content: bytes) -> dict[str, Any]:
        """Adds a chunk; after the last one, the file has its name.

        A chunk may begin before the end of what came, as after a lost answer: that part must be equal, and is skipped.
        """
        if upload_id in self._finished:
            return self._finished[upload_id]
        with self._opened(upload_id) as (announced, path, file):
            received = os.fstat(file.fileno()).st_size
            if not 0 <= offset <= received:
                raise DataError(f"the chunk begins at byte {offset}, expected was {received}; send it from there")
            if offset + len(content) > announced.size or len(content) > MOST_CHUNK:
                self.discard(upload_id)
                raise DataError(f"more than the announced {announced.size:,} bytes came; begin again")
            known = min(len(content), received - offset)
            if not _holds(file, offset, content[:known]):
                raise DataError(
                    f"this is not the file whose first {received:,} bytes came as {announced.name}; discard that "
                    "upload, then begin again"
                )
            self._write(file, received, content[known:])
            if offset + len(content) < announced.size:
                return {"received": max(received, offset + len(content))}
            os.fsync(file.fileno())
            target = self._place(announced, path)
        answer = {"received": announced.size, "name": target.name, "path": str(target)}
        self._remember(upload_id, answer)
        return answer

    def discard(self, upload_id: str) -> None:
        """Deletes what came of an upload."""
        if not _ID.fullmatch(upload_id) or not self._part(upload_id).is_file():
            raise DataError("this upload is not known any more")
        self._drop(upload_id)

    def remove(self, name: str) -> None:
        """Deletes an uploaded file."""
        path = self.folder / name
        if name not in {each["name"] for each in self.files()}:
            raise DataError(f"there is no uploaded file {name[:100]!r}")
        path.unlink()

    @contextlib.contextmanager
    def _opened(self, upload_id: str) -> Iterator[tuple[Announced, Path, FileIO]]:
        """What was announced, the part and its open file, which no other thread or process has at the same time."""
        path = self._part(upload_id) if _ID.fullmatch(upload_id) else self.folder / "none"
        try:
            with path.open("r+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                announced = self._announced(upload_id)
                if announced is None or not path.exists():  # placed or dropped while this one waited
                    raise FileNotFoundError
                yield announced, path, file
        except FileNotFoundError:
            raise DataError("this upload is not known any more; begin again") from None

    def _write(self, file: FileIO, at: int, content: bytes) -> None:
        try:
            file.seek(at)
            left = memoryview(content)
            while left:  # a write to a full disk may take a part, and say why only with the next one
                left = left[file.write(left) :]
        except OSError as error:
            file.truncate(at)
            fix = "make room on the disk, then go on" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "try again"
            raise DataError(f"the chunk cannot be written: {error.strerror}; {fix}") from None

    def _place(self, announced: Announced, part: Path) -> Path:
        """Gives the whole file its name, or the next free one like it."""
        stem, suffix = Path(announced.name).stem, Path(announced.name).suffix
        for number in range(1, 10_000):
            target = self.folder / (announced.name if number == 1 else f"{stem}-{number}{suffix}")
            try:
                os.link(part, target)  # fails where the name is taken, unlike a rename
            except FileExistsError:
                continue
            target.chmod(0o644)
            part.unlink()
            part.with_suffix(".json").unlink(missing_ok=True)
            return target
        raise DataError(f"there are too many files named like {announced.name}; delete some")

    def _remember(self, upload_id: str, answer: dict[str, Any]) -> None:
        self._finished[upload_id] = answer
        for old in list(self._finished)[:-MOST_FINISHED]:
            self._finished.pop(old, None)

    def _part(self, upload_id: str) -> Path:
        return self.folder / f".upload-{upload_id}.part"

    def _announced(self, upload_id: str) -> Announced | None:
        try:
            return Announced(**orjson.loads(self._part(upload_id).with_suffix(".json").read_bytes()))
        except (OSError, orjson.JSONDecodeError, TypeError):
            return None

    def _under_way(self) -> Iterator[tuple[str, Announced, os.stat_result]]:
        for path in self.folder.glob(".upload-*.part"):
            match = _PARTIAL.fullmatch(path.name)
            announced = self._announced(match[1]) if match else None
            with contextlib.suppress(OSError):
                if match and announced:
                    yield match[1], announced, path.stat()

    def _open_new(self, announced: Announced) -> str:
        upload_id = secrets.token_hex(8)
        part = self._part(upload_id)
        part.with_suffix(".json").write_bytes(orjson.dumps(asdict(announced)))
        part.touch(mode=0o600)
        return upload_id

    def _require_room(self, name: str, size: int) -> None:
        """Room on the disk and among the uploads; idle ones make way."""
        promised = sum(known.size - info.st_size for _, known, info in self._under_way())
        free = shutil.disk_usage(self.folder).free - promised
        if size + SPARE_BYTES > free:
            raise DataError(f"{name[:100]!r} needs {size:,} bytes and {free:,} are free; make room on the disk first")
        under_way = sorted(self._under_way(), key=lambda each: each[2].st_mtime)
        while len(under_way) >= MOST_AT_ONCE and time.time() - under_way[0][2].st_mtime > IDLE_S:
            self._drop(under_way.pop(0)[0])
        if len(under_way) >= MOST_AT_ONCE:
            raise DataError(f"{MOST_AT_ONCE} uploads are under way; wait until one is done, or discard one")

    def _drop(self, upload_id: str) -> None:
        for path in (self._part(upload_id), self._part(upload_id).with_suffix(".json")):
            with contextlib.suppress(OSError):
                path.unlink()

    def _drop_abandoned(self) -> None:
        """Parts with no chunk for a day, and what a server that was killed left of a file that has its name."""
        for path in self.folder.glob(".upload-*"):
            match = _OURS.fullmatch(path.name)
            with contextlib.suppress(OSError):
                part = self._part(match[1]) if match else path
                info = (part if part.exists() else path).stat()
                if match and (time.time() - info.st_mtime > ABANDONED_S or info.st_nlink > 1):
                    self._drop(match[1])

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{self.folder} cannot be made: {error.strerror}; choose another --data-dir") from None


def _holds(file: FileIO, at: int, content: bytes) -> bool:
    """Whether `content` stands in the file from `at` on."""
    file.seek(at)
    return all(
        file.read(len(content[first : first + COMPARED])) == content[first : first + COMPARED]
        for first in range(0, len(content), COMPARED)
    )


def _plain_name(name: str) -> str:
    """A name of letters, digits, - and _ with the suffix in small letters."""
    last = name.replace("\\", "/").rpartition("/")[2]
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(last).stem).strip("_-")[:80] or "data"
    return f"{stem}{Path(last).suffix.lower()}"
