"""Rows of a data file, read one after another in bounded memory: JSON, JSONL, CSV, Parquet.

A reader yields a `Row` for each usable row and a `BadRow` for each that is not. A file that cannot be read on raises
`DataError`, which names the file, the line, and what to do.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from moe_hub.data.file_kind import LINE_LIMIT, FileKind, Reading, decoded_chunks
from moe_hub.data.json_stream import read_json
from moe_hub.errors import DataError


@dataclass(frozen=True)
class Row:
    """One row: `line` in the file (for Parquet and Hub: number of the row), `value` a mapping of columns or a text."""

    line: int
    value: dict[str, Any] | str


@dataclass(frozen=True)
class BadRow:
    """One unusable row: where, what was expected, what was found (shortened), what to do."""

    line: int
    field: str
    expected: str
    found: str
    fix: str


def read_rows(path: Path, kind: FileKind, reading: Reading) -> Iterator[Row | BadRow]:
    """All rows of a file of rows."""
    read = {"json": _rows_of_json, "jsonl": read_jsonl, "csv": read_csv, "parquet": read_parquet}[kind]
    try:
        for item in read(path, reading):
            yield item if isinstance(item, BadRow) else _with_clean_names(item, reading)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the disk") from None


def _with_clean_names(row: Row, reading: Reading) -> Row:
    """Column names without spaces around them: ` answer` and `answer` are the same column."""
    if isinstance(row.value, str) or all(name == name.strip() for name in row.value):
        return row
    spaced = next(name for name in row.value if name != name.strip())
    reading.note(f"column {spaced!r} is read as {spaced.strip()!r}")
    return Row(row.line, {name.strip(): value for name, value in row.value.items()})


def shortened(value: Any, limit: int = 60) -> str:
    """A value as one short line for a message."""
    text = value if isinstance(value, str) else repr(value)
    text = text[: limit + 1].encode("unicode_escape", "backslashreplace").decode()
    return text if len(text) <= limit else text[: limit - 3] + "..."


def read_jsonl(path: Path, reading: Reading) -> Iterator[Row | BadRow]:
    """One JSON value a line; blank lines are skipped."""
    for number, line in _lines(path, reading):
        if line is None:
            yield BadRow(number, "", f"a line of at most {LINE_LIMIT >> 20} MiB", "a longer one", "split the row")
            continue
        if not line.strip():
            continue
        yield _parse_line(number, line)


def _lines(path: Path, reading: Reading) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines without their ends; None for one above the limit, of which only a chunk is held."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LINE_LIMIT + 1):
            number += 1
            reading.bytes_read += len(line)
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if len(line) <= LINE_LIMIT or line.endswith(b"\n"):
                yield number, line.rstrip(b"\r\n")
                continue
            while (rest := file.readline(LINE_LIMIT)) and not rest.endswith(b"\n"):
                pass
            yield number, None


def _parse_line(number: int, line: bytes) -> Row | BadRow:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{line[error.start]:02x} at column {error.start + 1}"
        return BadRow(number, "", "UTF-8 text", found, "convert the file: iconv -f WINDOWS-1252 -t UTF-8 in > out")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        found = f"{shortened(text, 40)} ({error.msg}, column {error.colno})"
        return BadRow(number, "", "one JSON value", found, "write each row as one line of valid JSON")
    return as_row(number, value)


def as_row(number: int, value: Any) -> Row | BadRow:
    """A parsed JSON value as a row."""
    if isinstance(value, dict) and value.keys() >= {"row_idx", "row"} and isinstance(value["row"], dict):
        value = value["row"]  # the form in which the Hub's viewer serves rows
    if isinstance(value, dict):
        broken = next((name for name in value if not _is_unicode(name)), None)
        if broken is not None:
            return BadRow(number, "", "Unicode column names", shortened(broken), "rename the column")
    if isinstance(value, dict | str):
        return Row(number, value)
    found = f"{_type_name(value)}: {shortened(value, 40)}"
    return BadRow(number, "", "an object of columns, or a text", found, 'write the row as {"column": "text", ...}')


def _is_unicode(text: str) -> bool:
    """Whether no half of a surrogate pair is in it."""
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _type_name(value: Any) -> str:
    names = {type(None): "null", bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return names.get(type(value), type(value).__name__)


def _rows_of_json(path: Path, reading: Reading) -> Iterator[Row | BadRow]:
    return (as_row(line, value) for line, value in read_json(path, reading))


def read_csv(path: Path, reading: Reading) -> Iterator[Row | BadRow]:
    """Comma, semicolon, tab or bar separated values under a line of column names."""
    csv.field_size_limit(LINE_LIMIT)
    lines = _text_lines(path, reading)
    first = next(lines, "")
    delimiter = max(",;\t|", key=lambda mark: (first.count(mark), mark == ","))
    if delimiter != ",":
        reading.note(f"columns are separated by {delimiter!r}")
    reader = csv.reader(_chain(first, lines), delimiter=delimiter, strict=True)
    names = _column_names(path, reader)
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fix = "close each quote, and write a quote inside a quoted field twice"
            yield BadRow(reader.line_num, "", "valid CSV", str(error), fix)
            continue
        if values:
            yield _csv_row(reader.line_num, names, values)


def _column_names(path: Path, reader: Any) -> list[str]:
    try:
        names: list[str] = next(reader, [])
    except csv.Error as error:
        raise DataError(f"{path}, line 1: the column names are not valid CSV ({error}); close each quote") from None
    stripped = [name.strip() for name in names]
    if not all(stripped) or len(set(stripped)) < len(stripped):
        raise DataError(
            f"{path}, line 1: expected different column names, found {shortened(stripped)}; "
            "the first line must name each column once"
        )
    return names


def _csv_row(line: int, names: list[str], values: list[str]) -> Row | BadRow:
    if len(values) != len(names):
        fix = "quote fields that hold the separator or a line end"
        return BadRow(line, "", f"{len(names)} columns", f"{len(values)}: {shortened(values, 40)}", fix)
    return Row(line, dict(zip(names, values, strict=True)))


def _text_lines(path: Path, reading: Reading) -> Iterator[str]:
    """Lines with their ends; a line above the limit is a `DataError`."""
    rest, number = "", 1
    for chunk in decoded_chunks(path, reading):
        *lines, rest = (rest + chunk).split("\n")
        for line in lines:
            yield line + "\n"
            number += 1
        if len(rest) > LINE_LIMIT:
            raise DataError(f"{path}, line {number}: longer than {LINE_LIMIT >> 20} MiB; split the row")
    if rest:
        yield rest


def _chain(first: str, lines: Iterable[str]) -> Iterator[str]:
    yield first
    yield from lines


def read_parquet(path: Path, reading: Reading) -> Iterator[Row | BadRow]:
    """Rows of an Apache Parquet file, a batch at a time."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=512):
                reading.bytes_read += max(1, path.stat().st_size * len(batch) // max(1, file.metadata.num_rows))
                for value in batch.to_pylist():
                    number += 1
                    yield as_row(number, value)
    except (arrow.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise DataError(
            f"{path}: not a readable Parquet file after row {number} ({shortened(str(error), 120)}); "
            "it may be cut off: copy or write it again"
        ) from None
