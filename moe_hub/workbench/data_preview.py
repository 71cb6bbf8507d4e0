"""The first rows of a data source, as they stand in the file and as the model will read them. No torch."""

from __future__ import annotations

from itertools import islice
from typing import Any

import orjson

from moe_hub.config import Config
from moe_hub.config.data import mixture_parts
from moe_hub.data.corpus import open_sources
from moe_hub.data.file_kind import Reading, decoded_chunks, kind_of
from moe_hub.data.formats import Mapping
from moe_hub.data.lambda_source import LambdaSource
from moe_hub.data.row_source import RowSource
from moe_hub.data.rows import BadRow, Row, read_rows
from moe_hub.data.source import Source
from moe_hub.data.text_source import TextSource
from moe_hub.errors import DataError

ROWS = 20
LONGEST_CELL = 400
MOST_COLUMNS = 24


def preview(config: Config) -> dict[str, Any]:
    """{"kind", "columns", "rows", "texts", "format", "mapping", "templates", "problems"}; raises `DataError`.

    Of a mixture: a row for each source, and the first texts of all.
    """
    sources = open_sources(config)
    if len(sources) == 1:
        return _preview(sources[0])
    parts = mixture_parts(config.data)
    found = [_preview(source) for source in sources]
    rows = [
        [f"{part.weight:.1%}", source.label, each["format"]]
        for part, source, each in zip(parts, sources, found, strict=True)
    ]
    return {
        "kind": "mixture", "columns": ["share of the rows", "source", "format"], "rows": rows,
        "texts": [text for each in found for text in each["texts"][:2]], "format": f"{len(parts)} sources by weight",
        "mapping": {}, "templates": {}, "problems": [text for each in found for text in each["problems"]],
    }  # fmt: skip


def _preview(source: Source) -> dict[str, Any]:
    if isinstance(source, TextSource):
        return _text(source)
    if isinstance(source, RowSource) and source.path is not None:
        return _rows(source)
    found = {"kind": "", "columns": [], "rows": [], "texts": [], "mapping": {}, "templates": {}, "problems": []}
    if not isinstance(source, LambdaSource):
        return {**found, "format": "known once the Hub has been asked: Inspect does that"}
    texts = [_short(document.text) for document in islice(source.training_documents(), ROWS)]
    return {**found, "format": f"generated tasks, layout {source.settings.layout}", "texts": texts}


def _text(source: TextSource) -> dict[str, Any]:
    chunk = next(iter(decoded_chunks(source.path, Reading())), "")
    lines = chunk.splitlines()[:ROWS]
    return {
        "kind": "text", "columns": ["line"], "rows": [[str(i + 1), _short(line)] for i, line in enumerate(lines)],
        "texts": [], "format": "plain text", "mapping": {}, "templates": {}, "problems": [],
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
    found = {"kind": kind, "columns": columns, "rows": rows, "problems": problems}
    try:
        mapping = source.mapping
    except DataError as error:
        if not columns:
            raise
        # The columns are shown all the same: a person chooses among them what detection did not find.
        return {**found, "texts": [], "format": "", "mapping": {}, "templates": {}, "problems": [str(error), *problems]}
    texts = [_short(item.text) for item in islice(source.documents(Reading()), ROWS) if not isinstance(item, BadRow)]
    return {
        **found, "texts": texts, "format": mapping.describe(), "mapping": dict(mapping.columns),
        "templates": _templates(mapping),
    }  # fmt: skip


def _templates(mapping: Mapping) -> dict[str, str]:
    """The templates that the format uses."""
    if mapping.text_format == "messages":
        return {"message_template": mapping.message_template}
    if mapping.has_answer:
        return {"prompt_template": mapping.prompt_template, "answer_template": mapping.answer_template}
    return {}


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
