"""Rows of one JSON value that fills a file, in bounded memory: a list, or an object that holds the list of rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from moe_hub.data.file_kind import LINE_LIMIT, Reading, decoded_chunks
from moe_hub.errors import DataError

BLANK = re.compile(r"[ \t\n\r]*")
ROW_KEYS = ("rows", "data", "train", "examples", "samples", "records", "items", "instances")
DIGITS_LIMIT = 300  # longer integers are data nobody means, and slow to convert


def read_json(path: Path, reading: Reading) -> Iterator[tuple[int, Any]]:
    """(line, value) of each row. Raises `DataError` at the first place that is not JSON.

    An object is searched for its list of rows; without one it is read as columns of equal length, or as one row.
    """
    scan = _Scanner(path, reading)
    if scan.peek() == "[":
        yield from _list_items(scan)
        scan.expect_end()
    else:
        yield from _rows_of_object(path, scan, reading)


def _list_items(scan: _Scanner) -> Iterator[tuple[int, Any]]:
    scan.expect("[")
    if scan.peek() == "]":
        scan.expect("]")
        return
    while True:
        scan.peek()  # so that the line is that of the value, not of the blanks before it
        line = scan.line()
        yield line, scan.value()
        if scan.peek() != ",":
            break
        scan.expect(",")
    scan.expect("]", "',' or ']'")


def _rows_of_object(path: Path, scan: _Scanner, reading: Reading) -> Iterator[tuple[int, Any]]:
    line, members, sizes = scan.line(), {}, {}
    for key in _keys(scan):
        if scan.begins_rows():
            sizes[key] = sum(1 for _ in _list_items(scan))
        else:
            members[key] = scan.value()
    scan.expect_end()
    if not sizes:
        yield from _without_rows(path, line, members, reading)
        return
    chosen = next((key for key in ROW_KEYS if key in sizes), max(sizes, key=lambda key: sizes[key]))
    reading.note(f"rows are read from {chosen!r}")
    for key in sizes.keys() - {chosen}:
        reading.note(f"{key!r} holds objects too and is not read; put it into a file of its own if they are rows")
    again = _Scanner(path, reading)
    for key in _keys(again):
        if key == chosen:
            yield from _list_items(again)
            return
        again.value()


def _keys(scan: _Scanner) -> Iterator[str]:
    """The keys of an object; after each the position is at its value, which the caller steps over."""
    scan.expect("{")
    while scan.peek() not in ("}", ""):
        key = scan.value()
        if not isinstance(key, str):
            scan.fail("a name in double quotes", "write objects as valid JSON")
        scan.expect(":")
        yield key
        if scan.peek() != ",":
            break
        scan.expect(",")
    scan.expect("}", "',' or '}'")


def _without_rows(path: Path, line: int, members: dict[str, Any], reading: Reading) -> Iterator[tuple[int, Any]]:
    lists = [value for value in members.values() if isinstance(value, list)]
    if members and len(lists) == len(members) and len({len(value) for value in lists}) == 1:
        reading.note("columns of equal length are read as rows")
        for values in zip(*lists, strict=True):
            yield line, dict(zip(members, values, strict=True))
    elif any(isinstance(value, str) for value in members.values()) and not lists:
        yield line, members
    else:
        keys = ", ".join(list(members)[:8])[:100].encode("unicode_escape").decode() or "none"
        raise DataError(
            f'{path}, line {line}: an object without a list of rows (keys: {keys}); write {{"data": [...]}}'
        )


class _Scanner:
    """A position in the text of a file of which only the part ahead is held."""

    def __init__(self, path: Path, reading: Reading) -> None:
        self.path = path
        self._chunks = decoded_chunks(path, reading)
        self._text = ""
        self._at = 0
        self._line, self._counted_to = 1, 0
        self._ended = False
        self._decoder = json.JSONDecoder(parse_int=_integer)

    def line(self) -> int:
        """Number of the line at the position."""
        self._line += self._text.count("\n", self._counted_to, self._at)
        self._counted_to = self._at
        return self._line

    def peek(self) -> str:
        """The next character that is not blank, which becomes the position; empty at the end."""
        while True:
            match = BLANK.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                return ""

    def expect(self, mark: str, described: str = "") -> None:
        """Steps over a mark; anything else is a `DataError`."""
        if self.peek() != mark:
            self.fail(described or repr(mark), "write the file as valid JSON")
        self._at += 1

    def expect_end(self) -> None:
        """Anything but blanks is a `DataError`."""
        if self.peek():
            self.fail("the end of the file", "write one list, or one object a line and name the file .jsonl")

    def begins_rows(self) -> bool:
        """Whether a list of objects begins here."""
        while self.peek() == "[":
            match = BLANK.match(self._text, self._at + 1)
            end = match.end() if match else self._at + 1
            if end < len(self._text) or not self._fill():
                return self._text[end : end + 1] == "{"
        return False

    def value(self) -> Any:
        """The JSON value at the position; reads on until it is whole."""
        if not self.peek():
            self.fail("a value", "the file is cut off; copy or write it again")
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError:
                raise DataError(f"{self.path}, line {self.line()}: nested too deeply; write flat rows") from None
            except json.JSONDecodeError as error:
                if self._wants_more(error) and self._fill():
                    continue
                self._fail_in_value(error)
            if end < len(self._text) or not self._fill():
                self._at = end
                return value

    def fail(self, expected: str, fix: str) -> NoReturn:
        """Raises the `DataError` for what stands at the position."""
        found = repr(self._text[self._at : self._at + 20]) if self._at < len(self._text) else "the end of the file"
        raise DataError(f"{self.path}, line {self.line()}: expected {expected}, found {found}; {fix}")

    def _wants_more(self, error: json.JSONDecodeError) -> bool:
        """Whether the error may come from the end of what was read so far, not from the text itself."""
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - 16

    def _fail_in_value(self, error: json.JSONDecodeError) -> NoReturn:
        line = self.line() + self._text.count("\n", self._at, error.pos)
        if self._ended and (error.msg.startswith("Unterminated") or error.pos >= len(self._text.rstrip())):
            raise DataError(
                f"{self.path}, line {line}: the file ends inside the row that begins in line {self.line()}; "
                "it is cut off: copy or write it again"
            )
        near = repr(self._text[max(error.pos - 10, 0) : error.pos + 20])
        raise DataError(f"{self.path}, line {line}: not JSON ({error.msg}) near {near}; correct it there")

    def _fill(self) -> bool:
        """Reads on, at least as much as is held, and lets go of what lies behind the position."""
        held = self._text[self._at :]
        if len(held) > LINE_LIMIT:
            raise DataError(f"{self.path}, line {self.line()}: a row above {LINE_LIMIT >> 20} MiB; split it")
        parts: list[str] = []
        size = 0
        while size <= len(held):  # doubling keeps the repeated parsing of one long row linear
            chunk = next(self._chunks, "")
            if not chunk:
                break
            parts.append(chunk)
            size += len(chunk)
        if not parts:
            self._ended = True
            return False
        self.line()
        self._text, self._at, self._counted_to = held + "".join(parts), 0, 0
        return True


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= DIGITS_LIMIT else float("inf")
