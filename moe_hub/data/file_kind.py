"""What a file is, by its content first and its name second, and its text in chunks."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import orjson

from moe_hub.errors import DataError

FileKind = Literal["text", "json", "jsonl", "csv", "parquet"]

LINE_LIMIT = 16 << 20  # bytes of one row: the memory that reading a hostile file may take
CHUNK = 1 << 20
HEAD = 1 << 16

# The first bytes of files that people take for text.
FOREIGN = (
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"\x1f\x8b", "gzip compressed", "unpack it: gunzip"),
    (b"\x28\xb5\x2f\xfd", "zstd compressed", "unpack it: unzstd"),
    (b"BZh9", "bzip2 compressed", "unpack it: bunzip2"),
    (b"\xfd7zXZ", "xz compressed", "unpack it: unxz"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (b"%PDF", "a PDF", "extract its text"),
    (b"ARROW1", "an Arrow file", "write it as Parquet"),
    (b"SQLite format 3", "an SQLite database", "export a table as CSV"),
    (b"\x80\x04", "a Python pickle, which is never loaded", "write it as JSONL"),
    (b"\x80\x05", "a Python pickle, which is never loaded", "write it as JSONL"),
    (b"\x89PNG", "an image", "give a file of text"),
    (b"\xff\xd8\xff", "an image", "give a file of text"),
    (b"<!DOCTYPE html", "a web page, perhaps an error page saved in place of the data", "download it again"),
    (b"version https://git-lfs", "a Git LFS pointer, not the data", "run: git lfs pull"),
)
WIDE_MARKS = ((codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"))
SUFFIXES: dict[str, FileKind] = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}


@dataclass
class Reading:
    """How far the reading of a file is, in bytes, and what was read in an unusual way."""

    notes: list[str] = field(default_factory=list)
    bytes_read: int = 0

    def described(self, name: str, size: int, rows: int | None = None) -> str:
        """`Reading rows.jsonl, 1,000 rows, 0.3 of 2.1 MB`, for a line of progress."""
        counted = "" if rows is None else f", {rows:,} rows"
        return f"Reading {name}{counted}, {self.bytes_read / 1e6:,.1f} of {size / 1e6:,.1f} MB"

    def note(self, text: str) -> None:
        """Keeps a remark, once."""
        if text not in self.notes:
            self.notes.append(text)


def kind_of(path: Path) -> FileKind:
    """The kind of a file; raises `DataError` where it is missing, empty, or nothing that can be trained on."""
    head = _head(path)
    named = SUFFIXES.get(path.suffix.lower(), "text")
    if head.startswith(b"PAR1"):
        return "parquet"
    if named == "parquet":
        raise DataError(f"{path}: not Parquet, it begins with {head[:8]!r}; rename it after what it is")
    _refuse_foreign(path, head)
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if not start and path.stat().st_size <= HEAD:
        raise DataError(f"{path}: holds nothing but blanks; give a file with text or rows")
    if named == "csv":
        return "csv"
    if named == "text":
        return _kind_of_json(path, start) if _holds_rows(start) else "text"
    if named == "jsonl":
        return "json" if start.startswith(b"[") and not _is_json(start.partition(b"\n")[0]) else "jsonl"
    if start[:1] not in (b"[", b"{"):
        found = start[:20].decode("utf-8", "backslashreplace").partition("\n")[0]
        raise DataError(
            f"{path}, line 1: expected JSON ('[' or '{{'), found {found!r}; write rows as JSON, or name it .txt"
        )
    return _kind_of_json(path, start)


def decoded_chunks(path: Path, reading: Reading) -> Iterator[str]:
    """The text of a UTF-8 file in chunks, without a byte order mark, with every line end as `\\n`.

    Raises `DataError` at a byte that is not UTF-8 and at a NUL byte.
    """
    decode = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")("strict"), translate=True)
    line = 1
    with path.open("rb") as file:
        while True:
            raw = file.read(CHUNK)
            reading.bytes_read = file.tell()
            try:
                text = decode.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                raise _not_utf8(path, line, error) from None
            if "\x00" in text:
                at = line + text.count("\n", 0, text.index("\x00"))
                raise DataError(f"{path}, line {at}: a NUL byte; this is no text file, or it is UTF-16: {ICONV}")
            if text:
                yield text
            if not raw:
                return
            line += text.count("\n")


ICONV = "convert it: iconv -f WINDOWS-1252 -t UTF-8 in > out (or -f UTF-16)"


def _not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> DataError:
    at = line + error.object.count(b"\n", 0, error.start)
    if error.reason == "unexpected end of data":
        return DataError(f"{path}, line {at}: the file ends inside a character; it is cut off, copy it again")
    return DataError(f"{path}, line {at}: byte 0x{error.object[error.start]:02x} is not UTF-8; {ICONV}")


def _head(path: Path) -> bytes:
    try:
        if not path.exists():
            raise DataError(f"{path}: no such file; check data.path")
        if not path.is_file():
            raise DataError(f"{path}: not a file; give one data file")
        with path.open("rb") as file:
            head = file.read(HEAD)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); check the path"
        ) from None
    if not head:
        raise DataError(f"{path}: the file is empty; give a file with text or rows")
    return head


def _refuse_foreign(path: Path, head: bytes) -> None:
    for mark, name, fix in FOREIGN:
        if head.startswith(mark):
            raise DataError(f"{path}: this is {name}; {fix}")
    for mark, name in WIDE_MARKS:
        if head.startswith(mark):
            raise DataError(f"{path}: this is {name}; convert it: iconv -f {name} -t UTF-8 in > out")
    if b"\x00" in head:
        line = head.count(b"\n", 0, head.index(b"\x00")) + 1
        raise DataError(f"{path}, line {line}: a NUL byte; this is no text file, or it is UTF-16: {ICONV}")


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _holds_rows(start: bytes) -> bool:
    """Whether a file named as text begins as JSON rows: an object in a line, or a list of objects."""
    first = start.partition(b"\n")[0]
    if start.startswith(b"{"):
        return _is_json(first) or (len(start) < HEAD - 8 and _is_json(start))
    return start.startswith(b"[") and start[1:].lstrip().startswith(b'{"')


def _kind_of_json(path: Path, start: bytes) -> FileKind:
    """One JSON value over the whole file, or one in each line."""
    if start.startswith(b"["):
        return "json"
    lines = [line for line in start.split(b"\n") if line.strip()]
    if len(lines) == 1 and len(start) >= HEAD - 8:
        return _kind_by_first_line(path)
    first, second = lines[0], lines[1] if len(lines) > 1 else b""
    return "jsonl" if second.startswith(b"{") and (_is_json(first) or first.rstrip().endswith(b"}")) else "json"


def _kind_by_first_line(path: Path) -> FileKind:
    """As above where the first line is longer than the head."""
    with path.open("rb") as file:
        line = file.readline(LINE_LIMIT)
        complete = line.endswith(b"\n") and file.read(CHUNK).strip() != b""
    return "jsonl" if complete and _is_json(line.removeprefix(codecs.BOM_UTF8)) else "json"
