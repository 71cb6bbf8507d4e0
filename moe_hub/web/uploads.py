"""Data files that a person brings: streamed to disk in chunks, under names that the server makes."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moe_hub.errors import DataError

SUFFIXES = (".json", ".jsonl", ".txt", ".csv", ".tsv", ".parquet")
MOST_BYTES = 8 << 30
MOST_CHUNK = 16 << 20
SPARE_BYTES = 256 << 20  # left free on the disk for checkpoints
MOST_AT_ONCE = 16
IDLE_S = 600.0  # an upload with no chunk for this long is given up
ABANDONED_S = 24 * 3600.0
_PARTIAL = re.compile(r"\.upload-[0-9a-f]{16}\.part")


@dataclass
class Upload:
    """One upload under way."""

    name: str
    size: int
    path: Path
    received: int = 0
    touched: float = field(default_factory=time.monotonic)


class Uploads:
    """`begin`, `append` and `remove`; all raise `DataError`. A file appears under its name once it is whole."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        self._lock = threading.Lock()
        self._open: dict[str, Upload] = {}

    def files(self) -> list[dict[str, Any]]:
        """Name, path, bytes and time of each whole file, the newest first."""
        found = []
        for path in self.folder.glob("*"):
            with contextlib.suppress(OSError):
                info = path.lstat()
                if path.suffix.lower() in SUFFIXES and path.is_file() and not path.is_symlink():
                    found.append({"name": path.name, "path": str(path), "bytes": info.st_size, "time": info.st_mtime})
        return sorted(found, key=lambda each: -float(str(each["time"])))

    def begin(self, name: str, size: int) -> str:
        """The id of a new upload of `size` bytes."""
        suffix = Path(name).suffix.lower()
        if suffix not in SUFFIXES:
            raise DataError(f"{name[:100]!r}: allowed are files that end with {', '.join(SUFFIXES)}")
        if not 0 < size <= self.most_bytes:
            raise DataError(f"{name[:100]!r} has {size:,} bytes; allowed are 1 to {self.most_bytes:,}")
        self._make_folder()
        free = shutil.disk_usage(self.folder).free
        if size + SPARE_BYTES > free:
            raise DataError(f"{name[:100]!r} needs {size:,} bytes and {free:,} are free; make room on the disk first")
        self._drop_idle()
        upload_id = secrets.token_hex(8)
        path = self.folder / f".upload-{upload_id}.part"
        path.touch(mode=0o600)
        with self._lock:
            self._open[upload_id] = Upload(_plain_name(name), size, path)
        return upload_id

    def append(self, upload_id: str, offset: int, content: bytes) -> dict[str, Any]:
        """Adds a chunk at the offset where the last one ended; after the last one, the file has its name."""
        with self._lock:
            upload = self._open.get(upload_id)
            if upload is None:
                raise DataError("this upload is not known any more; begin again")
            if offset != upload.received:
                raise DataError(f"the chunk begins at byte {offset}, expected was {upload.received}; begin again")
            if upload.received + len(content) > upload.size or len(content) > MOST_CHUNK:
                self._drop(upload_id)
                raise DataError(f"more than the announced {upload.size:,} bytes came; begin again")
            try:
                with upload.path.open("ab") as file:
                    file.write(content)
            except OSError as error:
                self._drop(upload_id)
                raise DataError(f"the chunk cannot be written: {error.strerror}") from None
            upload.received += len(content)
            upload.touched = time.monotonic()
            if upload.received < upload.size:
                return {"received": upload.received}
            del self._open[upload_id]
            target = self._place(upload)
        return {"received": upload.received, "name": target.name, "path": str(target)}

    def remove(self, name: str) -> None:
        """Deletes an uploaded file."""
        path = self.folder / name
        if name not in {each["name"] for each in self.files()}:
            raise DataError(f"there is no uploaded file {name[:100]!r}")
        path.unlink()

    def _place(self, upload: Upload) -> Path:
        """Gives the whole file its name, or the next free one like it."""
        with upload.path.open("rb") as file:
            os.fsync(file.fileno())
        stem, suffix = Path(upload.name).stem, Path(upload.name).suffix
        for number in range(1, 10_000):
            target = self.folder / (upload.name if number == 1 else f"{stem}-{number}{suffix}")
            try:
                os.link(upload.path, target)  # fails where the name is taken, unlike a rename
            except FileExistsError:
                continue
            upload.path.unlink()
            target.chmod(0o644)
            return target
        raise DataError(f"there are too many files named like {upload.name}; delete some")

    def _drop(self, upload_id: str) -> None:
        with contextlib.suppress(OSError):
            self._open.pop(upload_id).path.unlink()

    def _drop_idle(self) -> None:
        with self._lock:
            for upload_id, upload in list(self._open.items()):
                if time.monotonic() - upload.touched > IDLE_S:
                    self._drop(upload_id)
            if len(self._open) >= MOST_AT_ONCE:
                raise DataError(f"{MOST_AT_ONCE} uploads are under way; wait until one is done")

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{self.folder} cannot be made: {error.strerror}; choose another --data-dir") from None
        for path in self.folder.glob(".upload-*.part"):
            with contextlib.suppress(OSError):
                if _PARTIAL.fullmatch(path.name) and time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()


def _plain_name(name: str) -> str:
    """A name of letters, digits, - and _ with the suffix in small letters."""
    last = name.replace("\\", "/").rpartition("/")[2]
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(last).stem).strip("_-")[:80] or "data"
    return f"{stem}{Path(last).suffix.lower()}"
