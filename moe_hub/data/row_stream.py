"""The rows of an epoch: which stretches of the stored tokens stand in which row. No torch.

A `Stretch` is (begin, end) in the ids of the store. Documents are packed whole; a text that is longer than a row is
cut into stretches that overlap by one token, so that every token is a target exactly once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from moe_hub.data.packing import Packing, Rows
from moe_hub.data.token_store import SAMPLE, STREAM, TokenStore

Ints = npt.NDArray[np.int64]
Stretch: TypeAlias = tuple[int, int]
Row: TypeAlias = list[Stretch]
EPOCHS_HELD = 4
WINDOW = 32  # batches


class Epochs(Protocol):
    """Rows of one source; each epoch holds every token once, in another order."""

    num_rows: int
    num_tokens: int

    def row(self, epoch: int, index: int) -> Row:
        """Row `index` of an epoch; a pure function of the seed and the arguments."""

    def fills(self, epoch: int) -> Ints:
        """Tokens of each row of an epoch."""


class PackedEpochs:
    """Documents (samples and texts) packed into rows."""

    def __init__(self, store: TokenStore, documents: Ints, width: int, seed: tuple[int, ...] | None) -> None:
        self.begins, self.ends = cut(store.begins[documents], store.ends[documents], width)
        self.lengths = self.ends - self.begins
        self.packing = Packing(self.lengths, width)
        self.seed = seed
        self.num_rows = self.packing.num_rows
        self.num_tokens = int(self.lengths.sum())
        self._rows = lru_cache(EPOCHS_HELD)(self._draw)

    def row(self, epoch: int, index: int) -> Row:
        """As the protocol says; without a seed every epoch is the same."""
        pieces = self._rows(epoch).row(index)
        return list(zip(self.begins[pieces].tolist(), self.ends[pieces].tolist(), strict=True))

    def fills(self, epoch: int) -> Ints:
        """As the protocol says."""
        return self._rows(epoch).fills(self.lengths)

    def _draw(self, epoch: int) -> Rows:
        return self.packing.rows(None if self.seed is None else np.random.default_rng((*self.seed, epoch)))


class StreamEpochs:
    """One long text: each epoch cuts it at another offset into rows, which overlap by one token.

    The offset of a row is uniform, as in nanoGPT; unlike there, no token is drawn twice in an epoch. A row of T
    tokens has T - 1 targets, so `model.max_seq_len` of 65 is nanoGPT's block size of 64.
    """

    def __init__(self, begin: int, end: int, width: int, seed: tuple[int, ...]) -> None:
        self.begin, self.end, self.width, self.seed = begin, end, width, seed
        length, step = end - begin, width - 1
        # One row less than would fit, where there are several, so that the offset can move by a whole row.
        self.num_rows = max(1, (length - width) // step)
        self.slack = max(0, length - ((self.num_rows - 1) * step + width))
        self.num_tokens = self.num_rows * min(width, length)
        self._order = lru_cache(EPOCHS_HELD)(self._draw)

    def row(self, epoch: int, index: int) -> Row:
        """As the protocol says."""
        offset, order = self._order(epoch)
        begin = self.begin + offset + int(order[index]) * (self.width - 1)
        return [(begin, min(begin + self.width, self.end))]

    def fills(self, epoch: int) -> Ints:
        """As the protocol says."""
        return np.full(self.num_rows, min(self.width, self.end - self.begin))

    def _draw(self, epoch: int) -> tuple[int, Ints]:
        rng = np.random.default_rng((*self.seed, epoch))
        return int(rng.integers(self.slack + 1)), rng.permutation(self.num_rows)


class MixedEpochs:
    """Rows of several sources in the shares of their weights; an epoch has as many rows as all sources together."""

    def __init__(self, parts: list[Epochs], weights: tuple[float, ...], seed: tuple[int, ...]) -> None:
        self.parts, self.seed = parts, seed
        self.counts = shares(sum(part.num_rows for part in parts), weights)
        self.num_rows = sum(self.counts)
        self._order = lru_cache(EPOCHS_HELD)(self._draw)
        self.num_tokens = int(self.fills(0).sum())

    def row(self, epoch: int, index: int) -> Row:
        """As the protocol says. A source with few rows begins its own next epoch within this one."""
        sources, ranks = self._order(epoch)
        source = int(sources[index])
        part = self.parts[source]
        return part.row(*divmod(epoch * self.counts[source] + int(ranks[index]), part.num_rows))

    def fills(self, epoch: int) -> Ints:
        """As the protocol says."""
        sources, ranks = self._order(epoch)
        fills = np.empty(self.num_rows, np.int64)
        for number, (part, count) in enumerate(zip(self.parts, self.counts, strict=True)):
            own, row = np.divmod(epoch * count + ranks[sources == number], part.num_rows)
            values = np.empty(count, np.int64)
            for which in np.unique(own).tolist():
                values[own == which] = part.fills(which)[row[own == which]]
            fills[sources == number] = values
        return fills

    def _draw(self, epoch: int) -> tuple[Ints, Ints]:
        sources = np.repeat(np.arange(len(self.parts)), self.counts)
        sources = np.random.default_rng((*self.seed, epoch)).permutation(sources)
        ranks = np.empty_like(sources)
        for number, count in enumerate(self.counts):
            ranks[sources == number] = np.arange(count)
        return sources, ranks


class Batches:
    """The batches of all epochs, in order; each has rows of about the same number of tokens.

    Rows of a batch come from one window of `WINDOW` random batches, sorted by their tokens, so that a batch which is
    as wide as its fullest row has next to no padding; the batches of an epoch are then shuffled. The last one of an
    epoch holds what is left.
    """

    def __init__(self, epochs: Epochs, batch_size: int, seed: tuple[int, ...]) -> None:
        self.epochs, self.batch_size, self.seed = epochs, batch_size, seed
        self.per_epoch = -(-epochs.num_rows // batch_size)
        self._order = lru_cache(EPOCHS_HELD)(self._draw)

    def rows(self, index: int) -> list[Row]:
        """The rows of batch `index`: a pure function of the seed and the index."""
        epoch, number = divmod(index, self.per_epoch)
        order, blocks = self._order(epoch)
        first = int(blocks[number]) * self.batch_size
        return [self.epochs.row(epoch, int(row)) for row in order[first : first + self.batch_size]]

    def padding_share(self, width: int) -> float:
        """Share of padding in the batches of the first epoch, each as wide as its fullest row; `width` is the most."""
        if self.epochs.num_tokens == self.epochs.num_rows * width:
            return 0.0
        order, _ = self._order(0)
        fills = self.epochs.fills(0)[order]
        firsts = np.arange(0, len(fills), self.batch_size)
        widest = np.maximum.reduceat(fills, firsts)
        sizes = np.diff(np.append(firsts, len(fills)))
        return 1 - float(fills.sum() / (widest * sizes).sum())

    def _draw(self, epoch: int) -> tuple[Ints, Ints]:
        fills = self.epochs.fills(epoch)
        window = np.arange(len(fills)) // (WINDOW * self.batch_size)
        order = np.lexsort((fills, window))
        whole = len(fills) // self.batch_size
        blocks = np.random.default_rng((*self.seed, epoch)).permutation(whole)
        return order, np.append(blocks, np.arange(whole, self.per_epoch))


def shares(total: int, weights: tuple[float, ...]) -> list[int]:
    """`total` split by weights (which add to 1) by largest remainder, each at least 1."""
    exact = [total * weight for weight in weights]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(counts)), key=lambda i: counts[i] - exact[i])
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return [max(1, count) for count in counts]


def cut(begins: Ints, ends: Ints, width: int) -> tuple[Ints, Ints]:
    """Stretches of at most `width` tokens: what is longer is cut, with one token of overlap."""
    step = width - 1
    pieces = np.maximum(1, -(-(ends - begins - 1) // step))
    number = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first = np.repeat(begins, pieces) + number * step
    return first, np.minimum(first + width, np.repeat(ends, pieces))


class HeldOut:
    """All held-out rows in a fixed order; those of several sources take turns in the shares of their numbers."""

    def __init__(self, store: TokenStore, width: int, usable: npt.NDArray[np.bool_]) -> None:
        self._sources: list[_CutStream | PackedEpochs] = []
        for source in np.unique(store.source).tolist():
            documents = np.flatnonzero(usable & (store.source == source))
            if not len(documents):
                continue
            if store.kind[documents[0]] == STREAM:
                self._sources.append(_CutStream(store.begins[documents], store.ends[documents], width))
            else:
                self._sources.append(PackedEpochs(store, documents, width, None))
        sizes = [source.num_rows for source in self._sources]
        self.num_rows = sum(sizes)
        self.num_tokens = sum(source.num_tokens for source in self._sources)
        self._source = np.repeat(np.arange(len(sizes)), sizes)
        self._index = np.concatenate([np.arange(size) for size in sizes])
        turn = (self._index + 0.5) / np.repeat(sizes, sizes)
        self._order = np.lexsort((self._source, turn)) if len(sizes) > 1 else np.arange(self.num_rows)

    def rows(self, most: int | None) -> list[Row]:
        """The first `most` rows, or all."""
        chosen = self._order[:most]
        pairs = zip(self._source[chosen].tolist(), self._index[chosen].tolist(), strict=True)
        return [self._sources[source].row(0, index) for source, index in pairs]


class _CutStream:
    """A stream cut into rows from its beginning, the last one shorter."""

    def __init__(self, begins: Ints, ends: Ints, width: int) -> None:
        self.begins, self.ends = cut(begins, ends, width)
        self.num_rows = len(self.begins)
        self.num_tokens = int((self.ends - self.begins).sum())

    def row(self, epoch: int, index: int) -> Row:
        return [(int(self.begins[index]), int(self.ends[index]))]


def training_epochs(
    store: TokenStore,
    width: int,
    usable: npt.NDArray[np.bool_],
    weights: tuple[float, ...],
    seed: int,
) -> Epochs:
    """The epochs over the usable documents of all sources."""
    parts: list[Epochs] = []
    kept: list[float] = []
    for source, weight in enumerate(weights):
        documents = np.flatnonzero(usable & (store.source == source))
        if not len(documents):
            continue
        kept.append(weight)
        if store.kind[documents[0]] == STREAM:
            stream = int(documents[0])
            parts.append(StreamEpochs(int(store.begins[stream]), int(store.ends[stream]), width, (seed, source)))
        else:
            parts.append(PackedEpochs(store, documents, width, (seed, source)))
    if len(parts) == 1:
        return parts[0]
    return MixedEpochs(parts, tuple(weight / sum(kept) for weight in kept), (seed, len(weights)))


def longer_samples(store: TokenStore, width: int) -> npt.NDArray[np.bool_]:
    """Which documents are samples, to be kept whole, that do not fit into a row."""
    return np.asarray((store.kind == SAMPLE) & (store.lengths > width))
