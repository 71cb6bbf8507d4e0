"""How the tokens of a corpus fit the rows of a model: epochs, held-out rows, what is too long, padding. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_hub.config import Config
from moe_hub.data.corpus import Corpus
from moe_hub.data.row_stream import Batches, HeldOut, longer_samples, training_epochs
from moe_hub.data.token_store import TEXT, TokenStore
from moe_hub.errors import DataError

BATCH_ORDER = (7, 7)  # sets the seed of the order of batches apart from that of the rows


@dataclass(frozen=True)
class Shape:
    """`usable` and `too_long` have one entry for each document of the store."""

    batches: Batches
    held_out: HeldOut
    usable: npt.NDArray[np.bool_]
    too_long: npt.NDArray[np.bool_]
    facts: dict[str, Any]


def shape_of(config: Config, corpus: Corpus) -> Shape:
    """Fits a corpus to `model.max_seq_len`. Raises `DataError` where samples are too long for it."""
    store, width = corpus.store, config.model.max_seq_len
    too_long = longer_samples(store, width)
    _refuse_long(store, too_long, config)
    usable = (store.held_out == 0) & ~too_long
    epochs = training_epochs(store, width, usable, corpus.weights, config.seed)
    batches = Batches(epochs, config.train.batch_size, (config.seed, *BATCH_ORDER))
    held_out = HeldOut(store, width, (store.held_out == 1) & ~too_long)
    cut = int(((store.kind == TEXT) & (store.lengths > width)).sum())
    facts = {
        "train_documents": int(usable.sum()),
        "eval_documents": int(((store.held_out == 1) & ~too_long).sum()),
        "rows_per_epoch": epochs.num_rows,
        "tokens_per_epoch": epochs.num_tokens,
        "eval_tokens": held_out.num_tokens,
        "padding_share": round(batches.padding_share(width), 4),
        "dropped_too_long": int(too_long.sum()),
        "longest_sample": int(store.lengths[store.kind != TEXT].max(initial=0)) if too_long.any() else 0,
        "texts_cut_into_rows": cut,
    }
    return Shape(batches, held_out, usable, too_long, facts)


def _refuse_long(store: TokenStore, too_long: npt.NDArray[np.bool_], config: Config) -> None:
    count, width = int(too_long.sum()), config.model.max_seq_len
    if not count:
        return
    longest = int(store.lengths[too_long].max())
    share = count / len(store.ends)
    if config.data.too_long == "drop" and share <= 0.5 and _both_sides(store, too_long):
        return
    fix = f"set model.max_seq_len={longest}, or shorten them"
    if share <= 0.5 and config.data.too_long == "refuse":
        fix += ", or set data.too_long=drop"
    raise DataError(
        f"{count} of {len(store.ends)} samples are longer than model.max_seq_len = {width} tokens (the longest has "
        f"{longest}); samples with an answer are never cut: {fix}"
    )


def _both_sides(store: TokenStore, too_long: npt.NDArray[np.bool_]) -> bool:
    return bool((~too_long & (store.held_out == 0)).any() and (~too_long & (store.held_out == 1)).any())
