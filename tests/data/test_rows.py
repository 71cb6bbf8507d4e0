"""Reading rows: the same rows from each kind of file, line numbers, bounded memory."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_hub.data import file_kind
from moe_hub.data.file_kind import Reading, decoded_chunks, kind_of
from moe_hub.data.rows import BadRow, Row, read_rows

ROWS = [{"question": f'q{i}, with "quotes" and\nlines λ', "answer": f"a{i}"} for i in range(7)]


def rows_of(path: Path) -> list[Row | BadRow]:
    return list(read_rows(path, kind_of(path), Reading()))


def written(folder: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"rows.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "json":
        path.write_text(json.dumps(rows, indent=2, ensure_ascii=False))
    elif kind == "csv":
        sink = io.StringIO()
        writer = csv.DictWriter(sink, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        path.write_text(sink.getvalue())
    else:
        parquet.write_table(arrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_each_kind_gives_the_same_rows(kind: str, tmp_path: Path) -> None:
    rows = rows_of(written(tmp_path, kind, ROWS))
    assert [row.value for row in rows if isinstance(row, Row)] == ROWS


def test_rows_know_their_lines(tmp_path: Path) -> None:
    assert [row.line for row in rows_of(written(tmp_path, "jsonl", ROWS))] == list(range(1, 8))
    assert [row.line for row in rows_of(written(tmp_path, "json", ROWS))] == list(range(2, 30, 4))
    assert [row.line for row in rows_of(written(tmp_path, "csv", ROWS))] == list(range(3, 17, 2)), "where it ends"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=20, deadline=None)
@given(
    rows=st.lists(st.dictionaries(st.text(min_size=1, max_size=5), JSON_VALUES, min_size=1), min_size=1, max_size=6),
    chunk=st.sampled_from([1, 2, 7, 50]),
    indent=st.sampled_from([None, 0, 3]),
    wrap=st.booleans(),
)
def test_json_is_read_the_same_in_chunks_of_any_size(
    rows: list[dict[str, Any]], chunk: int, indent: int | None, wrap: bool
) -> None:
    """Against `json.loads`; a chunk may end anywhere, in a number, an escape, a character."""
    text = json.dumps({"name": "x", "data": rows} if wrap else rows, indent=indent, ensure_ascii=chunk % 2 == 0)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "rows.json"
        path.write_text(text)
        patch.setattr(file_kind, "CHUNK", chunk)
        found = rows_of(path)
    expected = [{name.strip(): value for name, value in row.items()} for row in json.loads(json.dumps(rows))]
    assert [row.value for row in found if isinstance(row, Row)] == expected
    lines = [row.line for row in found]
    assert lines == sorted(lines)
    assert lines[-1] <= text.count("\n") + 1


def test_text_is_decoded_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "naïve λ\r\nlines\rand \U0001f600\n".encode())
    for size in (1, 2, 3, 100):
        monkeypatch.setattr(file_kind, "CHUNK", size)
        assert "".join(decoded_chunks(path, Reading())) == "naïve λ\nlines\nand \U0001f600\n"


def test_rows_of_the_hub_viewer_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"features": [{"name": "q"}], "rows": [{"row_idx": 0, "row": {"q": "x"}}]}))
    reading = Reading()
    values = [row.value for row in read_rows(path, kind_of(path), reading) if isinstance(row, Row)]
    assert values == [{"q": "x"}]
    assert reading.notes[0] == "rows are read from 'rows'"
    assert reading.notes[1].startswith("'features' holds objects too and is not read")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_memory_is_bounded(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path, kind, [{"question": "q" * 1600, "answer": "a" * 1600}] * 3000)
    assert path.stat().st_size > 9_000_000
    tracemalloc.start()
    count = sum(isinstance(row, Row) for row in read_rows(path, kind_of(path), Reading()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 3000
    assert peak < 6_000_000
