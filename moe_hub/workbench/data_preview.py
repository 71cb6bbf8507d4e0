"""The first rows of a data source, as they stand in the file and as the model will read them. No torch."""

from __future__ import annotations

from itertools import islice
from typing import Any

import orjson

from moe_hub.config import Config
from moe_hub.data.corpus import open_sources
from moe_hub.data.file_kind import Reading, decoded_chunks, kind_of
from moe_hub.data.row_source import RowSource
from moe_hub.data.rows import BadRow, Row, read_rows
from moe_hub.data.text_source import TextSource

ROWS = 20
LONGEST_CELL = 400
MOST_COLUMNS = 24


def preview(config: Config) -> dict[str, Any]:
    """{"kind", "columns", "rows", "texts", "format", "mapping", "problems"}; raises `DataError`."""
    source = open_sources(config)[0]
    if isinstance(source, TextSource):
        return _text(source)
    if isinstance(source, RowSource) and source.path is not None:
        return _rows(source)
    return {"kind": "", "columns": [], "rows": [], "texts": [], "format": "", "mapping": {}, "problems": []}


def _text(source: TextSource) -> dict[str, Any]:
    chunk = next(iter(decoded_chunks(source.path, Reading())), "")
    lines = chunk.splitlines()[:ROWS]
    return {
        "kind": "text", "columns": ["line"], "rows": [[str(i + 1), _short(line)] for i, line in enumerate(lines)],
        "texts": [], "format": "plain text", "mapping": {}, "problems": [],
    }  # fmt: skip


def _rows(source: RowSource) -> dict[str, Any]:
    assert source.path is not None
    kind = kind_of(source.path)
    items = list(islice(read_rows(source.path, kind, Reading()), ROWS))
    good = [item for item in items if isinstance(item, Row)]
    values = [row.value if isinstance(row.value, dict) else {"text": row.value} for row in good]
    columns = list(dict.fromkeys(name for row in values for name in row))[:MOST_COLUMNS]
    lines = [str(row.line) for row in good]
    rows = [[line, *(_short(row.get(name)) for name in columns)] for line, row in zip(lines, values, strict=True)]
    problems = [_problem(item) for item in items if isinstance(item, BadRow)]
    mapping = source.mapping
    texts = [_short(item.text) for item in islice(source.documents(Reading()), ROWS) if not isinstance(item, BadRow)]
    return {
        "kind": kind, "columns": columns, "rows": rows, "texts": texts, "format": mapping.describe(),
        "mapping": dict(mapping.columns),
        "problems": problems,
    }  # fmt: skip


def _problem(row: BadRow) -> str:
    return f"line {row.line}: {row.field or 'row'}: expected {row.expected}, found {row.found}; {row.fix}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else "" if value is None else _json(value)
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…"


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return str(value)
