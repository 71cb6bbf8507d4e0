"""Batches of a run: `open_data` gives a `TrainingData`, whose batches are pure functions of the seed and their number.

Legend: B batch, T time.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from moe_hub.config import Config
from moe_hub.data.batch import Batch, Part, Whole
from moe_hub.data.corpus import Corpus, open_corpus
from moe_hub.data.row_stream import Batches, Row, training_epochs
from moe_hub.data.shape import BATCH_ORDER, Shape, shape_of
from moe_hub.data.source import Progress
from moe_hub.data.token_store import SAMPLE
from moe_hub.data.tokenizer import Tokenizer

NO_TARGET = -100


class TaskBatch(NamedTuple):
    """One sample a row. `steps` (B,): reduction steps, -1 where unknown; `levels` (B,): level of the task, else 0."""

    batch: Batch
    steps: npt.NDArray[np.int64]
    levels: npt.NDArray[np.int64]


class TrainingData:
    """The tokens of a config as batches of `train.batch_size` rows of at most `model.max_seq_len` tokens.

    A batch is as wide as its fullest row.
    """

    def __init__(self, config: Config, corpus: Corpus) -> None:
        self.config, self.corpus = config, corpus
        self.tokenizer: Tokenizer = corpus.tokenizer
        if (corpus.store.kind == SAMPLE).any():
            self.tokenizer.begin_with_bos()
        self.tokenizer.generation_template = str(corpus.facts["generation_template"])
        self.width, self.batch_size = config.model.max_seq_len, config.train.batch_size
        self.shape: Shape = shape_of(config, corpus)
        self.unigram_entropy = float(corpus.facts["unigram_entropy"])
        self.facts: dict[str, Any] = corpus.facts | self.shape.facts
        self._batches_of = lru_cache(8)(self._batches_up_to)

    @property
    def batches_per_epoch(self) -> int:
        """Batches in which every row comes once; the last of them may have fewer rows."""
        return self.shape.batches.per_epoch

    @property
    def tokens_per_epoch(self) -> int:
        """Tokens of an epoch, padding not counted."""
        return self.shape.batches.epochs.num_tokens

    def train_batch(self, index: int, unlocked_level: int | None = None, part: Part | None = None) -> Batch:
        """Batch number `index` of the training: a pure function of (config.seed, index, unlocked_level).

        With `unlocked_level` only samples up to that level are used (the lowest level, where none is that low); with
        `part` only its rows are built.
        """
        rows = self._batches_of(unlocked_level).rows(index)
        if part is None or part.count == 1:
            return self._batch(rows)
        fills, own = tuple(map(_fill, rows)), part.rows(len(rows))
        built = self._batch([rows[number] for number in own] or [[]], max(fills))
        return replace(built, whole=Whole(fills, own))

    def eval_batches(self, limit: int | None) -> list[Batch]:
        """Held-out rows, packed, always the same; at most `limit` batches."""
        rows = sorted(self.shape.held_out.rows(self._most(limit)), key=_fill)
        return [self._batch(rows[first : first + self.batch_size]) for first in range(0, len(rows), self.batch_size)]

    def task_batches(self, limit: int | None) -> list[TaskBatch]:
        """Held-out samples with an answer, one a row, always the same; at most `limit` batches."""
        store = self.corpus.store
        documents = np.flatnonzero((store.held_out == 1) & (store.kind == SAMPLE) & ~self.shape.too_long)
        documents = documents[: self._most(limit)]
        documents = documents[np.argsort(store.lengths[documents], kind="stable")]
        batches: list[TaskBatch] = []
        for first in range(0, len(documents), self.batch_size):
            chosen = documents[first : first + self.batch_size]
            rows: list[Row] = [[(int(store.begins[d]), int(store.ends[d]))] for d in chosen]
            steps, levels = store.steps[chosen].astype(np.int64), store.level[chosen].astype(np.int64)
            batches.append(TaskBatch(self._batch(rows), steps, levels))
        return batches

    def _most(self, limit: int | None) -> int | None:
        return None if limit is None else limit * self.batch_size

    def _batches_up_to(self, level: int | None) -> Batches:
        if level is None:
            return self.shape.batches
        store = self.corpus.store
        lowest = int(store.level[self.shape.usable].min())
        usable = self.shape.usable & (store.level <= max(level, lowest))
        epochs = training_epochs(store, self.width, usable, self.corpus.weights, self.config.seed)
        return Batches(epochs, self.batch_size, (self.config.seed, *BATCH_ORDER))

    def _batch(self, rows: list[Row], width: int = 0) -> Batch:
        """The rows as a batch, as wide as the fullest of them, or wider."""
        store = self.corpus.store
        width = max(width, *map(_fill, rows))
        ids_BT = np.full((len(rows), width), self.tokenizer.pad_id, np.int64)
        labels_BT = np.full((len(rows), width), NO_TARGET, np.int64)
        documents_BT = np.zeros((len(rows), width), np.int64)
        for number, row in enumerate(rows):
            at = 0
            for document, (begin, end) in enumerate(row, 1):
                ids_BT[number, at : at + end - begin] = store.ids[begin:end]
                documents_BT[number, at : at + end - begin] = document
                for first, last in store.learned_tokens(begin + 1, end):  # nothing comes before the first token
                    labels_BT[number, at + first - begin : at + last - begin] = store.ids[first:last]
                at += end - begin
        return Batch(torch.from_numpy(ids_BT), torch.from_numpy(labels_BT), torch.from_numpy(documents_BT))


def _fill(row: Row) -> int:
    """Tokens of a row."""
    return sum(end - begin for begin, end in row)


def open_data(config: Config, *, cache_dir: Path | None = None, progress: Progress | None = None) -> TrainingData:
    """The data of a config, from the token cache or prepared now (see `open_corpus`). Raises `DataError`."""
    return TrainingData(config, open_corpus(config, cache_dir=cache_dir, progress=progress))
