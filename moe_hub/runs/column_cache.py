"""A disposable copy of a long run's columns beside its metrics.jsonl, so that the next reader begins there.

Layout: one line of JSON (the header), then the arrays, each at a multiple of 64 bytes. The arrays are mapped into
memory, not read. Nothing in it is trusted beyond its length: a cache that does not fit the file is left alone, and
deleting it costs time only.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import mmap
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from moe_hub.runs.columns import Column, Growable, Snapshot, Table
from moe_hub.runs.files import open_regular
from moe_hub.runs.ingest import Ingest

FORMAT = 1
_ALIGN = 64
_DTYPES = {"f8": np.float64, "f4": np.float32, "i8": np.int64, "i4": np.int32}
_LEAST_FREE = 1 << 30  # a disk that is nearly full belongs to the trainer
_SAMPLES, _SAMPLE_BYTES = 16, 4096


@dataclass(frozen=True)
class Place:
    """How far the file was read: byte offset, the last bytes before it, and lines that were no rows."""

    offset: int
    tail: bytes
    bad_lines: int


def cache_path(metrics_path: Path) -> Path:
    """The hidden file beside metrics.jsonl."""
    return metrics_path.with_name(f".{metrics_path.stem}.columns")


def save(metrics_path: Path, descriptor: int, place: Place, ingest: Ingest) -> None:
    """Writes the cache in one step; does nothing where it cannot, or where the disk has little room left."""
    arrays: list[npt.NDArray[Any]] = []
    header = {
        "format": FORMAT, "offset": place.offset, "tail": place.tail.hex(), "bad_lines": place.bad_lines,
        "attempt": ingest.attempt, "digest": _digest(descriptor, place.offset),
        "table": _describe_table(ingest.table, arrays),
        "branches": [_describe_snapshot(branch, arrays) for branch in ingest.table.branches],
    }  # fmt: skip
    path = cache_path(metrics_path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        if shutil.disk_usage(path.parent).free < _LEAST_FREE + sum(array.nbytes for array in arrays):
            return
        with temporary.open("xb") as file:
            line = orjson.dumps({**header, "arrays": [[_code(array), list(array.shape)] for array in arrays]})
            file.write(line + b" " * (-(len(line) + 1) % _ALIGN) + b"\n")
            for array in arrays:
                file.write(np.ascontiguousarray(array).data)
                file.write(b"\0" * (-array.nbytes % _ALIGN))
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()


def load(metrics_path: Path, descriptor: int) -> tuple[Place, Ingest] | None:
    """Where the cache ends and the rows up to there; None where there is none that fits the open file."""
    try:
        with open_regular(cache_path(metrics_path)) as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        end = mapped.find(b"\n") + 1
        header = orjson.loads(mapped[:end])
        if header["format"] != FORMAT or header["digest"] != _digest(descriptor, header["offset"]):
            return None
        arrays = _arrays(mapped, end, header["arrays"])
        place = Place(int(header["offset"]), bytes.fromhex(header["tail"]), int(header["bad_lines"]))
        ingest = Ingest()
        ingest.attempt = int(header["attempt"])
        ingest.table = _table(header["table"], arrays)
        ingest.table.branches = tuple(_snapshot(branch, arrays) for branch in header["branches"])
        return place, ingest
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None


def _digest(descriptor: int, offset: int) -> str:
    """Of samples of the first `offset` bytes: the head, the end and places between; "" where the file is shorter."""
    if os.fstat(descriptor).st_size < offset:
        return ""
    found = hashlib.blake2b(str(offset).encode(), digest_size=16)
    for index in range(_SAMPLES + 1):
        start = max(0, offset - _SAMPLE_BYTES) * index // _SAMPLES
        found.update(os.pread(descriptor, min(_SAMPLE_BYTES, offset - start), start))
    return found.hexdigest()


def _code(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype.kind}{array.dtype.itemsize}"


def _describe_table(table: Table, arrays: list[npt.NDArray[Any]]) -> dict[str, Any]:
    columns = [
        [name, list(shape), None if column.rows is None else _keep(arrays, column.rows.view()),
         _keep(arrays, column.values.view())]
        for (name, shape), column in table.columns.items()
    ]  # fmt: skip
    rows = [_keep(arrays, growable.view()) for growable in (table.steps, table.times, table.tokens)]
    return {"rows": rows, "columns": columns}


def _describe_snapshot(snapshot: Snapshot, arrays: list[npt.NDArray[Any]]) -> dict[str, Any]:
    columns = [
        [name, None if rows is None else _keep(arrays, rows), _keep(arrays, values)]
        for name, (rows, values) in snapshot.columns.items()
    ]  # fmt: skip
    return {"rows": [_keep(arrays, part) for part in (snapshot.steps, snapshot.times, snapshot.tokens)],
            "columns": columns}  # fmt: skip


def _keep(arrays: list[npt.NDArray[Any]], array: npt.NDArray[Any]) -> int:
    arrays.append(array)
    return len(arrays) - 1


def _arrays(mapped: mmap.mmap, start: int, described: list[Any]) -> list[npt.NDArray[Any]]:
    found = []
    for code, shape in described:
        count = math.prod(shape)
        array = np.frombuffer(mapped, _DTYPES[code], count, start).reshape(shape)  # raises where the file is too short
        found.append(array)
        start += array.nbytes + -array.nbytes % _ALIGN
    return found


def _table(header: dict[str, Any], arrays: list[npt.NDArray[Any]]) -> Table:
    table = Table()
    table.steps, table.times, table.tokens = (Growable.over(arrays[index]) for index in header["rows"])
    for name, shape, rows, values in header["columns"]:
        column = Column(tuple(shape))
        column.values = Growable.over(arrays[values])
        column.rows = None if rows is None else Growable.over(arrays[rows])
        table.columns[name, tuple(shape)] = column
    return table


def _snapshot(header: dict[str, Any], arrays: list[npt.NDArray[Any]]) -> Snapshot:
    steps, times, tokens = (arrays[index] for index in header["rows"])
    columns = {
        name: (None if rows is None else arrays[rows], arrays[values]) for name, rows, values in header["columns"]
    }
    return Snapshot(steps, times, tokens, columns)
