"""What every source of documents offers: facts about itself, and its documents as tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from moe_hub.data.formats import Document
from moe_hub.data.token_store import SAMPLE, TEXT, TokenWriter
from moe_hub.data.tokenizer import Tokenizer

Progress = Callable[[str, float], None]
BATCH = 512  # documents that are tokenised at once


class Source(Protocol):
    """A source of documents, read as often as needed."""

    label: str
    plain_text: bool

    @property
    def text_length(self) -> int:
        """Characters of all texts; known after `survey`."""

    @property
    def generation_template(self) -> str:
        """What stood around prompts in training, with `{prompt}` in it: `{prompt}` alone where nothing did."""

    def key_parts(self, root: Any) -> dict[str, str]:
        """Everything that decides the documents and their split, for the key of the token cache."""

    def survey(self, progress: Progress) -> dict[str, Any]:
        """Facts for people. Reads the source once where that is needed to split it; raises `DataError`."""

    def characters(self) -> set[str]:
        """Every character that occurs; called after `survey`."""

    def training_texts(self) -> Iterator[str]:
        """Texts that are not held out, to train a tokenizer on; called after `survey`."""

    def write(self, writer: TokenWriter, tokenizer: Tokenizer, number: int, progress: Progress) -> dict[str, Any]:
        """Appends all documents as source `number`; more facts. Called after `survey`."""


def write_documents(
    documents: Iterator[tuple[Document, bool]], writer: TokenWriter, tokenizer: Tokenizer, number: int
) -> None:
    """Appends (document, held out) pairs: <bos>, the parts, <eos>, which is learned with what it ends."""
    batch: list[tuple[Document, bool]] = []
    for pair in documents:
        batch.append(pair)
        if len(batch) == BATCH:
            _write_batch(batch, writer, tokenizer, number)
            batch = []
    _write_batch(batch, writer, tokenizer, number)


def _write_batch(batch: list[tuple[Document, bool]], writer: TokenWriter, tokenizer: Tokenizer, number: int) -> None:
    encoded = iter(tokenizer.encode_many([text for document, _ in batch for text, _ in document.parts]))
    bos, eos = np.array([tokenizer.bos_id], np.uint32), np.array([tokenizer.eos_id], np.uint32)
    for document, held_out in batch:
        kind = TEXT if document.is_text else SAMPLE
        writer.begin(kind, held_out=held_out, source=number, steps=document.steps, level=document.level)
        writer.append(bos, learned=False)
        for _, learned in document.parts:
            writer.append(next(encoded), learned=learned)
        writer.append(eos, learned=document.parts[-1][1])
