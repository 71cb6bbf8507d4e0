"""The token cache: one folder for each content and set of options, made whole or not at all.

The key is the hash of everything that decides the tokens: the bytes of the file (or what the Hub names them), every
option, the files of the tokenizer, the generator's code, and `CACHE_VERSION`. Entries are written to a temporary
name under a lock and renamed, so that a second process waits and then reads, and a killed one leaves no half entry.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock, Timeout

from moe_hub.data.folder import data_dir
from moe_hub.errors import DataError

CACHE_VERSION = 3
ENTRY_FILE = "entry.json"
UNCHANGED = "content and options are unchanged"
RACY_NS = 2_000_000_000  # a file changed this shortly before it was hashed may change again within one clock tick


@dataclass(frozen=True)
class Entry:
    """One folder of the cache. `parts` is what its key was made of, `used` when it was last read (unix s)."""

    key: str
    folder: Path
    parts: dict[str, str]
    facts: dict[str, Any]
    size: int
    used: float


@dataclass(frozen=True)
class Found:
    """The entry for a key, whether it was there, and why or why not."""

    entry: Entry
    hit: bool
    reason: str
    seconds: float


def default_cache_dir() -> Path:
    """`cache` in $MOE_HUB_DATA, else `data/cache` below the current folder."""
    return data_dir() / "cache"


def key_of(parts: Mapping[str, str]) -> str:
    """The name of an entry: 128 bits of a hash of its parts."""
    text = json.dumps({"cache_version": str(CACHE_VERSION), **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def open_or_build(root: Path, parts: dict[str, str], build: Callable[[Path], dict[str, Any]]) -> Found:
    """The entry for `parts`; `build(folder)` fills one that is missing and returns its facts.

    Raises `DataError` where the cache cannot be written; an error in `build` leaves nothing behind.
    """
    began = time.perf_counter()
    key = key_of(parts)
    entry, damage = _read(root / key)
    if entry:
        return _hit(entry, began)
    with _writing(root):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{key}.lock"):
            entry, damage = _read(root / key)
            if entry:
                return _hit(entry, began)
            reason = damage or _why_missing(root, parts)
            entry = _build(root, key, parts, build)
    return Found(entry, False, reason, time.perf_counter() - began)


def find(root: Path, parts: Mapping[str, str]) -> Entry | None:
    """The entry for `parts` where it is there; builds nothing."""
    return _read(root / key_of(parts))[0]


def outlook(root: Path, parts: Mapping[str, str]) -> tuple[bool, str]:
    """Whether opening `parts` now would be a hit, and why or why not; builds nothing."""
    entry, damage = _read(root / key_of(parts))
    return (True, UNCHANGED) if entry else (False, damage or _why_missing(root, parts))


def entries(root: Path) -> list[Entry]:
    """All whole entries, the last used first."""
    found = [_read(folder)[0] for folder in root.iterdir() if folder.is_dir()] if root.is_dir() else []
    return sorted((entry for entry in found if entry), key=lambda entry: -entry.used)


def purge(root: Path, keys: set[str] | None = None) -> tuple[int, int]:
    """Deletes entries (all, or those whose key begins with one of `keys`) and leftovers; (entries, bytes) deleted.

    An entry that is being written stays. A process that has mapped an entry goes on reading it.
    """
    count = size = 0
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        key = path.name.lstrip(".").partition(".")[0]
        whole = path.is_dir() and not path.name.startswith(".")
        if path.is_symlink() or not path.is_dir() or (keys is not None and not key.startswith(tuple(keys))):
            continue
        with contextlib.suppress(Timeout), FileLock(root / f"{key}.lock", timeout=0):
            size += _size(path)
            count += whole
            shutil.rmtree(path, ignore_errors=True)
    if keys is None:
        shutil.rmtree(root / "files", ignore_errors=True)
    return count, size


def facts_of(folder: Path) -> dict[str, Any]:
    """The facts of an entry."""
    facts: dict[str, Any] = orjson.loads((folder / ENTRY_FILE).read_bytes())["facts"]
    return facts


def sha256_of_file(path: Path, root: Path) -> str:
    """sha256 of a file's bytes, remembered by device, inode, size and times: an unchanged file is not read again.

    The time of change (ctime) is among them and cannot be set back, so that an edit with an old date is noticed.
    """
    known = _remembered(path, root)
    if known:
        return known
    stat = path.stat()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time_ns() - stat.st_ctime_ns > RACY_NS:
        with contextlib.suppress(OSError):
            memo = {"identity": _identity(stat), "sha256": digest, "path": str(path)}
            _replace(_memo_file(path, root), orjson.dumps(memo))
    return digest


def is_remembered(path: Path, root: Path) -> bool:
    """Whether `sha256_of_file` knows the hash of a file without reading it."""
    return bool(_remembered(path, root))


def _remembered(path: Path, root: Path) -> str:
    with contextlib.suppress(OSError, orjson.JSONDecodeError, KeyError, TypeError):
        known = orjson.loads(_memo_file(path, root).read_bytes())
        if known["identity"] == _identity(path.stat()):
            return str(known["sha256"])
    return ""


def _identity(stat: os.stat_result) -> list[int]:
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _memo_file(path: Path, root: Path) -> Path:
    return root / "files" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.json"


def _read(folder: Path) -> tuple[Entry | None, str]:
    """The entry in a folder, or why what lies there cannot be used."""
    try:
        known = orjson.loads((folder / ENTRY_FILE).read_bytes())
        for name, size in known["files"].items():
            if (folder / name).stat().st_size != size:
                return None, f"the entry was damaged: {name} has another size"
        used = folder.stat().st_mtime
        return Entry(folder.name, folder, known["parts"], known["facts"], sum(known["files"].values()), used), ""
    except FileNotFoundError:
        return None, "the entry was damaged: a file is missing" if folder.is_dir() else ""
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None, "the entry was damaged: entry.json cannot be read"


def _hit(entry: Entry, began: float) -> Found:
    with contextlib.suppress(OSError):  # a cache that only others may write is still read
        os.utime(entry.folder)
    return Found(entry, True, UNCHANGED, time.perf_counter() - began)


def _build(root: Path, key: str, parts: dict[str, str], build: Callable[[Path], dict[str, Any]]) -> Entry:
    for leftover in (*root.glob(f".{key}.*"), root / key):  # of a killed process, or damaged: the lock is ours
        shutil.rmtree(leftover, ignore_errors=True)
    folder = root / f".{key}.{os.getpid()}"
    folder.mkdir()
    try:
        facts = build(folder)
        files = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
        record = {"version": CACHE_VERSION, "parts": parts, "facts": facts, "files": files, "made": time.time()}
        _replace(folder / ENTRY_FILE, orjson.dumps(record, option=orjson.OPT_INDENT_2))
        for path in folder.rglob("*"):
            _sync(path)
        folder.rename(root / key)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    entry, damage = _read(root / key)
    if entry is None:
        raise DataError(f"token cache {root}: the entry just written cannot be read ({damage}); check the disk")
    return entry


def _why_missing(root: Path, parts: Mapping[str, str]) -> str:
    """What differs from the entry that is most alike and of the same source."""
    others = [entry for entry in entries(root) if entry.parts.get("source") == parts.get("source")]
    if not others:
        return "not prepared before"
    differing = [
        [name for name in sorted({*parts, *entry.parts}) if parts.get(name) != entry.parts.get(name)]
        for entry in others
    ]
    nearest = min(range(len(others)), key=lambda index: len(differing[index]))
    if not differing[nearest]:
        return "prepared by another version of this program"
    return "; ".join(_change(name, others[nearest].parts.get(name), parts.get(name)) for name in differing[nearest])


def _change(name: str, before: str | None, now: str | None) -> str:
    if name.endswith("sha256"):
        return f"the content changed: sha256 {(before or 'none')[:12]} is now {(now or 'none')[:12]}"
    return f"{name} changed from {before} to {now}"


@contextlib.contextmanager
def _writing(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fix = "make room, or run: python -m moe_hub.data cache purge"
        elif error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
            fix = "choose a folder that can be written with MOE_HUB_DATA"
        else:
            raise
        raise DataError(f"token cache {root}: {error.strerror}; {fix}") from None


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def _sync(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
