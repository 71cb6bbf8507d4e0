"""The first rows of a source as they would be learned, for the page and the shell."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from moe_hub.config import Config
from moe_hub.data.corpus import open_sources
from moe_hub.data.file_kind import Reading, decoded_chunks
from moe_hub.data.formats import Document
from moe_hub.data.lambda_source import LambdaSource
from moe_hub.data.row_source import RowSource
from moe_hub.data.rows import BadRow
from moe_hub.data.source import Source
from moe_hub.data.text_source import TextSource

LONGEST = 2000  # characters that are shown of one row


@dataclass(frozen=True)
class PreviewRow:
    """One row: `parts` are (text, learned), cut at `LONGEST`; `problem` says why a row cannot be used."""

    source: str
    line: int
    parts: tuple[tuple[str, bool], ...] = ()
    problem: str = ""


def preview(config: Config, count: int = 5) -> list[PreviewRow]:
    """The first `count` rows of each source, bad ones included. Raises `DataError` where nothing can be read."""
    return [row for source in open_sources(config) for row in _first_rows(source, count)]


def _first_rows(source: Source, count: int) -> list[PreviewRow]:
    if isinstance(source, LambdaSource):
        documents = islice(source.training_documents(), count)
        return [PreviewRow(source.label, number, _cut(document)) for number, document in enumerate(documents)]
    if isinstance(source, TextSource):
        chunk = next(decoded_chunks(source.path, Reading()), "")
        lines = chunk[:LONGEST].split("\n")[:count]
        return [PreviewRow(source.label, number, ((line, True),)) for number, line in enumerate(lines, 1)]
    assert isinstance(source, RowSource), "there are three kinds of sources"
    items = islice(source.documents(Reading()), count)
    return [_row(source, number, item) for number, item in enumerate(items, 1)]


def _row(source: RowSource, number: int, item: Document | BadRow) -> PreviewRow:
    if isinstance(item, Document):
        return PreviewRow(source.label, number, _cut(item))
    column = f"column {item.field!r}: " if item.field else ""
    return PreviewRow(source.label, item.line, (), f"{column}expected {item.expected}, found {item.found}; {item.fix}")


def _cut(document: Document) -> tuple[tuple[str, bool], ...]:
    parts: list[tuple[str, bool]] = []
    left = LONGEST
    for text, learned in document.parts:
        if left > 0:
            parts.append((text[:left], learned))
        left -= len(text)
    return tuple(parts)
