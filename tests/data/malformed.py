"""Files that go wrong in one way each: (name of the file, its bytes, words that the message must hold)."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from dataclasses import dataclass

import pyarrow as arrow
import pyarrow.parquet as parquet

ROWS = [{"question": f"What is {i} and {i}?", "answer": f"It is {2 * i}."} for i in range(40)]
JSONL = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
JSON = json.dumps(ROWS, indent=1).encode()
CSV = b"question,answer\n" + b"".join(f"What is {i}?,It is {2 * i}.\n".encode() for i in range(40))
COLUMNS = json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}).encode()
TEXT = "".join(f"Line {i} of a text that goes on for a while.\n" for i in range(60)).encode()


def parquet_bytes() -> bytes:
    """A small valid Parquet file."""
    sink = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


def zip_bytes() -> bytes:
    """A zip archive with a data file in it."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("rows.json", JSON)
    return sink.getvalue()


@dataclass(frozen=True)
class Case:
    """`words` stand in the message; where `usable`, the file trains and they stand in its notes."""

    name: str
    content: bytes
    words: tuple[str, ...] = ()
    usable: bool = False


def _with_line(number: int, line: bytes, base: bytes = JSONL) -> bytes:
    lines = base.splitlines(keepends=True)
    return b"".join([*lines[: number - 1], line + b"\n", *lines[number - 1 :]])


PARQUET = parquet_bytes()

CASES: tuple[Case, ...] = (
    # empty, blank, too little
    Case("empty.json", b"", ("empty",)),
    Case("empty.txt", b"", ("empty",)),
    Case("blank.jsonl", b" \n\n\t\n", ("nothing but blanks",)),
    Case("blank.txt", b"\n\n\n", ("nothing but blanks",)),
    Case("bom_only.txt", b"\xef\xbb\xbf", ("nothing but blanks",)),
    Case("one_character.txt", b"x", ("too few",)),
    Case("one_row.jsonl", JSONL.splitlines(keepends=True)[0], ("at least 2",)),
    Case("same_question.jsonl", JSONL.splitlines(keepends=True)[3] * 9, ("at least 2",)),
    Case("empty_list.json", b"[]", ("no usable row",)),
    Case("empty_object.json", b"{}", ("without a list of rows",)),
    Case("header_only.csv", b"question,answer\n", ("no usable row",)),
    # not what the name says
    Case("zip.json", zip_bytes(), ("zip archive", "unpack")),
    Case("gzip.jsonl", gzip.compress(JSONL, mtime=0), ("gzip", "unpack")),
    Case("pickle.json", b"\x80\x04\x95\x10\x00", ("pickle", "never loaded")),
    Case("page.json", b"<!DOCTYPE html><html>404</html>", ("web page", "download it again")),
    Case("lfs.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", ("git lfs pull",)),
    Case("prose.json", b"Once upon a time\n", ("line 1", "expected JSON")),
    Case("text.parquet", TEXT, ("not Parquet",)),
    Case("binary.txt", bytes(range(256)) * 40, ("line 1", "NUL")),
    # encodings
    Case("utf16.jsonl", JSONL.decode().encode("utf-16"), ("UTF-16", "iconv")),
    Case("utf32.txt", TEXT.decode().encode("utf-32"), ("UTF-32", "iconv")),
    Case("utf16_without_bom.txt", TEXT.decode().encode("utf-16-le"), ("NUL", "UTF-16")),
    Case("latin1.txt", TEXT + "Caf\u00e9 \u00fc\n".encode("latin-1"), ("line 61", "0xe9", "iconv")),
    Case("latin1.jsonl", _with_line(7, b'{"question": "caf\xe9?", "answer": "x"}'), ("line 7", "0xe9")),
    Case("latin1.json", JSON.replace(b"What is 9", b"What\xe9s 9"), ("line", "0xe9", "iconv")),
    Case("latin1.csv", CSV + b"caf\xe9?,yes\n", ("line 42", "0xe9")),
    Case("cut_in_character.txt", TEXT + "\u03bb".encode()[:1], ("line 61", "cut off")),
    Case("nul.txt", TEXT + b"a\x00b\n", ("line 61", "NUL")),
    Case("nul.jsonl", _with_line(5, b'{"question": "a\x00b?", "answer": "x"}'), ("line 5", "NUL")),
    Case("nul_late.jsonl", JSONL * 40 + b'{"question": "a\x00b?", "answer": "x"}\n', ("line 1601",)),
    Case("nul.csv", CSV + b"a\x00b?,yes\n", ("line 42", "NUL")),
    # broken JSON
    Case("cut_off.json", JSON[:-40], ("cut off",)),
    Case("cut_off_after_row.json", JSON.rstrip()[:-1], ("end of the file",)),
    Case("missing_comma.json", JSON.replace(b"},\n {", b"}\n {", 1), ("line 6", "expected ',' or ']'")),
    Case("trailing_comma.json", JSON.rstrip()[:-1] + b",]", ("not JSON",)),
    Case("two_lists.json", JSON + JSON, ("expected the end of the file", ".jsonl")),
    Case("single_quotes.jsonl", _with_line(3, b"{'question': 'a?', 'answer': 'x'}"), ("line 3", "valid JSON")),
    Case("nan.jsonl", _with_line(4, b'{"question": "a?", "answer": NaN}'), ("line 4",)),
    Case("nan.json", JSON.replace(b'"It is 6."', b"NaN"), ("line", "'answer'", "found a number: nan")),
    Case("cut_off.jsonl", JSONL[:-20], ("line 40",)),
    Case("deep.jsonl", _with_line(6, b'{"question": ' + b"[" * 5000 + b"]" * 5000 + b"}"), ("line 6",)),
    Case("deep.json", b'[{"question": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]", ("line 1", "nested too deeply")),
    Case("deep_open.json", b"[" * 200_000, ("line 1",)),
    Case("lone_surrogate.jsonl", _with_line(8, b'{"question": "a\\ud800?", "answer": "x"}'), ("line 8", "surrogate")),
    Case("lone_surrogate.json", JSON.replace(b"What is 9", b"\\udc00 is 9"), ("surrogate", "'question'")),
    Case("raw_surrogate.jsonl", _with_line(8, b'{"question": "a\xed\xa0\x80?", "answer": "x"}'), ("line 8", "0xed")),
    Case("huge_integer.json", b'[{"question": ' + b"9" * 10_000 + b', "answer": "x"}]', ("line 1", "'question'")),
    Case("escape_cut.json", JSON[:-30] + b"\\u12", ("line",)),
    Case("surrogate_column.json", JSON.replace(b'"question": "What is 9', b'"\\udc00": 1, "question": "What is 9'),
         ("line 38", "Unicode column names")),
    Case("surrogate_key.json", b'{"\\udc00": {"a": 1}}', ("without a list of rows",)),
    # rows and columns
    Case("numbers.json", b"[1, 2, 3]", ("line 1", "object of columns")),
    Case("nested_lists.jsonl", b"[1]\n[2]\n", ("line 1", "object of columns")),
    Case("null_answer.jsonl", _with_line(9, b'{"question": "a?", "answer": null}'), ("line 9", "'answer'", "null")),
    Case("nested_answer.jsonl", _with_line(9, b'{"question": "a?", "answer": {"text": "x"}}'), ("line 9", "nested")),
    Case("empty_answer.jsonl", _with_line(9, b'{"question": "a?", "answer": "  "}'), ("line 9", "empty")),
    Case("missing_answer.jsonl", _with_line(9, b'{"question": "a?"}'), ("line 9", "no such column")),
    Case("strange_columns.jsonl", b'{"foo": "a", "bar": "b"}\n' * 2, ("no known format", "foo, bar")),
    Case("object_without_rows.json", b'{"version": 3, "meta": {"a": 1}}', ("version, meta", "data")),
    Case("bad_messages.jsonl", b'{"messages": [{"role": "user"}]}\n{"messages": [{"role": "user", "content": "a"}]}\n',
         ("line 1", "content", "assistant")),
    Case("ragged.csv", CSV + b"only one\n", ("line 42", "2 columns")),
    Case("open_quote.csv", CSV + b'"never closed,yes\nmore,more\n', ("valid CSV",)),
    Case("same_columns.csv", b"a,a\n1,2\n", ("line 1", "different column names")),
    Case("cut_off.parquet", PARQUET[:-100], ("Parquet", "cut off")),
    Case("damaged.parquet", PARQUET[:200] + b"\xff" * 80 + PARQUET[280:], ("Parquet",)),
    Case("huge_line.jsonl", _with_line(2, b'{"question": "' + b"x" * (17 << 20) + b'"}'), ("line 2", "16 MiB")),
    Case("huge_row.json", b'[{"question": "' + b"x" * (33 << 20) + b'", "answer": "y"}]', ("line 1", "16 MiB")),
    Case("huge_line.csv", b"question,answer\n" + b"x" * (34 << 20) + b",y\n", ("16 MiB",)),
    # unusual, and read
    Case("bom.jsonl", b"\xef\xbb\xbf" + JSONL, usable=True),
    Case("bom.json", b"\xef\xbb\xbf" + JSON, usable=True),
    Case("bom.csv", b"\xef\xbb\xbf" + CSV, usable=True),
    Case("crlf.jsonl", JSONL.replace(b"\n", b"\r\n"), usable=True),
    Case("crlf.csv", CSV.replace(b"\n", b"\r\n"), usable=True),
    Case("crlf.txt", TEXT.replace(b"\n", b"\r\n"), usable=True),
    Case("blank_lines.jsonl", b"\n\n" + JSONL.replace(b"\n", b"\n\n"), usable=True),
    Case("rows.txt", JSONL, usable=True),
    Case("list.txt", JSON, usable=True),
    Case("lines.json", JSONL, usable=True),
    Case("list.jsonl", JSON, usable=True),
    Case("one_line.json", json.dumps({"data": ROWS}).encode(), ("'data'",), usable=True),
    Case("columns.json", COLUMNS, ("columns of equal",), usable=True),
    Case("spaces.jsonl", JSONL.replace(b'"answer"', b'" answer "'), ("' answer '",), usable=True),
    Case("semicolons.csv", CSV.replace(b",", b";"), ("';'",), usable=True),
    Case("tabs.tsv", CSV.replace(b",", b"\t"), ("separated by",), usable=True),
    Case("long_line.jsonl", b'{"text": "abc"}\n{"text": "' + b"word " * (2 << 20) + b'"}\n', usable=True),
    Case("long_line.txt", b"word " * (2 << 20), usable=True),
    Case("brackets.txt", b"[Enter HAMLET]\n" + TEXT, usable=True),
    Case("braces.txt", b"{ not json at all\n" + TEXT, usable=True),
)  # fmt: skip
