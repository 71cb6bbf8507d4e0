"""Rows of a file or of a Hub dataset as documents, held out by groups of equal questions or texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_hub.config import DataConfig
from moe_hub.data.cache import sha256_of_file
from moe_hub.data.file_kind import FileKind, Reading
from moe_hub.data.formats import Document, Mapping, detect, prompt_around, render
from moe_hub.data.quality import (
    Survey,
    bad_row_lines,
    held_out_rows,
    random_split_leakage,
    refuse_bad_rows,
)
from moe_hub.data.rows import BadRow, Row, read_rows
from moe_hub.data.source import Progress, write_documents
from moe_hub.data.token_store import TokenWriter
from moe_hub.data.tokenizer import Tokenizer
from moe_hub.errors import DataError

ROWS_TO_DETECT = 100
OPTIONS_OF_ROWS = (
    "text_format",
    "text_column",
    "prompt_column",
    "input_column",
    "answer_column",
    "messages_column",
    "prompt_template",
    "answer_template",
    "message_template",
    "bad_rows",
    "num_train_samples",
    "num_eval_samples",
    "eval_fraction",
)


class RowSource:
    """Rows with columns, or of texts. `read(reading)` reads them from the start; `path` is None for a Hub dataset."""

    plain_text = False

    def __init__(
        self,
        label: str,
        data: DataConfig,
        read: Callable[[Reading], Iterator[Row | BadRow]],
        path: Path | None,
        identity: Callable[[Path], dict[str, str]],
    ) -> None:
        self.label, self.data, self.path = label, data, path
        self.size = path.stat().st_size if path else 0  # bytes; for a Hub dataset rows, once it is loaded
        self._read, self._identity = read, identity
        self._mapping: Mapping | None = None
        self.found = Survey()
        self.notes: list[str] = []
        self.held_out: npt.NDArray[np.bool_] = np.empty(0, np.bool_)

    def key_parts(self, root: Path) -> dict[str, str]:
        """Content and every option that decides which text is trained on."""
        return self._identity(root) | {name: str(getattr(self.data, name)) for name in OPTIONS_OF_ROWS}

    @property
    def mapping(self) -> Mapping:
        """How rows are read, from the config and the first rows."""
        if self._mapping is None:
            items = list(islice(self._read(Reading()), ROWS_TO_DETECT))
            rows = [item for item in items if isinstance(item, Row)]
            if not rows:
                bad = [item for item in items if isinstance(item, BadRow)]
                lines = "\n".join(bad_row_lines(bad[:3], self.label))
                raise DataError(f"{self.label}: no usable row in the first {len(items)}\n{lines}".rstrip())
            self._mapping = detect(rows, self.data, self.label)
        return self._mapping

    def survey(self, progress: Progress) -> dict[str, Any]:
        """Reads all rows: bad ones, duplicates, which are held out."""
        found = self.survey_rows(progress)
        refuse_bad_rows(found, self.label, skip=self.data.bad_rows == "skip")
        groups = found.groups
        self.held_out = held_out_rows(groups, self.data.eval_fraction, self.data.num_eval_samples, self.label)
        return {
            "format": self.mapping.describe(),
            "prompt_template": self.mapping.prompt_template,
            "bad_rows": found.bad,
            "first_bad_rows": list(bad_row_lines(found.first_bad, self.label)),
            **found.duplicates(),
            "random_split_leakage": round(random_split_leakage(groups, self.data.eval_fraction), 4),
            "leaking_rows": int(np.isin(groups[self.held_out], groups[~self.held_out]).sum()),
            "notes": self.notes,
        }

    def survey_rows(self, progress: Progress) -> Survey:
        """Reads all rows; refuses none."""
        reading, self.found = Reading(), Survey()
        for number, item in enumerate(self.documents(reading)):
            self.found.add(item)
            if number % 1000 == 0:
                progress(self._reading(reading, number), min(1.0, reading.bytes_read / max(self.size, 1)))
        self.notes = reading.notes
        if self._most_rows is not None and self.found.good + self.found.bad == self._most_rows:
            self.notes.append(f"only the first {self._most_rows} rows are read (data.num_train_samples)")
        return self.found

    def _reading(self, reading: Reading, rows: int) -> str:
        """What is read at the moment."""
        if self.path:
            return reading.described(self.name, self.size, rows)
        return f"Reading {self.name}, {rows:,} of {self.size:,} rows"

    @property
    def name(self) -> str:
        """The file's name, or what the Hub calls it."""
        return self.path.name if self.path else self.label

    @property
    def generation_template(self) -> str:
        """As the protocol says; from the templates of the mapping."""
        return prompt_around(self.mapping)

    @property
    def text_length(self) -> int:
        """Characters of all rows."""
        return self.found.text_length

    def characters(self) -> set[str]:
        """Those of all rows."""
        return self.found.characters

    def training_texts(self) -> Iterator[str]:
        """The rows that are not held out."""
        return (document.text for document, held_out in self._split() if not held_out)

    def write(self, writer: TokenWriter, tokenizer: Tokenizer, number: int, progress: Progress) -> dict[str, Any]:
        """Appends all good rows."""

        def followed() -> Iterator[tuple[Document, bool]]:
            for done, pair in enumerate(self._split()):
                if done % 500 == 0:
                    told = f"Tokenising {self.name}, {done:,} of {self.found.good:,} rows"
                    progress(told, done / max(self.found.good, 1))
                yield pair

        write_documents(followed(), writer, tokenizer, number)
        return {}

    @property
    def _most_rows(self) -> int | None:
        """Rows that are read: enough for the training samples asked for and their share of held-out ones."""
        asked = self.data.num_train_samples
        return None if asked is None else max(2, math.ceil(asked / (1 - self.data.eval_fraction)))

    def documents(self, reading: Reading) -> Iterator[Document | BadRow]:
        """All rows that are read, rendered."""
        mapping = self.mapping
        for item in islice(self._read(reading), self._most_rows):
            yield item if isinstance(item, BadRow) else render(item, mapping)

    def _split(self) -> Iterator[tuple[Document, bool]]:
        good = (item for item in self.documents(Reading()) if isinstance(item, Document))
        trained, most = 0, self.data.num_train_samples
        for document, held_out in zip(good, self.held_out.tolist(), strict=False):
            trained += not held_out
            if held_out or most is None or trained <= most:
                yield document, held_out


def hold_out_everywhere(sources: list[RowSource]) -> None:
    """What one source of a mixture holds out is trained on from no other; called after their surveys.

    Raises `DataError` where that leaves a source nothing to train on.
    """
    if len(sources) < 2:
        return
    held_out = np.concatenate([source.found.groups[source.held_out] for source in sources])
    for source in sources:
        source.held_out = np.isin(source.found.groups, held_out)
        if source.held_out.all():
            raise DataError(
                f"{source.label}: all its rows are held out, because they stand in another source of the mixture "
                "too; leave one of the two out"
            )


def file_rows(path: Path, kind: FileKind, data: DataConfig) -> RowSource:
    """The rows of a JSON, JSONL, CSV or Parquet file."""

    def identity(root: Path) -> dict[str, str]:
        return {"source": f"file {path.resolve()}", "kind": kind, "sha256": sha256_of_file(path, root)}

    return RowSource(str(path), data, lambda reading: read_rows(path, kind, reading), path, identity)
