"""How values and whole files go to disk and come back: JSON without NaN tokens, files replaced in one step."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import orjson

LARGEST_FILE = 16 << 20  # bytes of a file that is read whole: config, status, notes, requests
_LEFTOVER_S = 60.0
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: arrays as lists, non-finite numbers as "NaN", "Infinity", "-Infinity".

    Raises `TypeError` for what is neither a number, text, None, nor a mapping or sequence of those.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return _number(float(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # an array, a tensor, or a scalar of either
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} is not a number, text, mapping or array")


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def to_json(values: Mapping[str, Any], *, indent: bool = False) -> bytes:
    """A flat or nested mapping as JSON text, written as `plain` says; arrays without non-finite numbers go fast.

    float32 arrays are written with the digits that float32 needs. Raises `TypeError` as `plain` does.
    """
    ready = {key: value if type(value) is int or type(value) is str else _quick(value) for key, value in values.items()}
    return orjson.dumps(ready, option=orjson.OPT_SERIALIZE_NUMPY | (orjson.OPT_INDENT_2 if indent else 0))


def _quick(value: Any) -> Any:
    if type(value) is float:
        return value if math.isfinite(value) else _number(value)
    if type(value).__module__ == "numpy":
        return _quick_array(value)
    return plain(value)


def _quick_array(value: Any) -> Any:
    import numpy as np  # here: the starter of a trainer reads and writes a status, and is to begin at once

    if isinstance(value, np.ndarray) and value.ndim and value.dtype.kind == "f" and value.dtype.itemsize in (4, 8):
        return np.ascontiguousarray(value) if np.isfinite(value).all() else plain(value)
    return plain(value)


def replace_file(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Writes a file so that a reader sees the old or the new content, never a part; raises `OSError`.

    Without `sync` the new content may be lost when the power fails (not when the process is killed).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def remove_leftovers(folder: Path) -> None:
    """Removes what writers that were killed left of `replace_file`, once it is a minute old."""
    with contextlib.suppress(OSError):
        for path in folder.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                if abs(time.time() - path.lstat().st_mtime) > _LEFTOVER_S:
                    path.unlink()


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file for reading; raises `OSError` for a link, a pipe or a folder, and never waits."""
    descriptor = os.open(path, os.O_RDONLY | _NO_LINK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path.name} is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, limit: int = LARGEST_FILE) -> bytes:
    """The content of a regular file of at most `limit` bytes; raises `OSError`."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(f"{path.name} is larger than {limit} bytes")
    return content
