"""What a checkpoint scores on held-out documents, row by row.

Legend: B batch, T time.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from moe_hub.config import Config
from moe_hub.data.batch import Batch
from moe_hub.data.corpus import Corpus
from moe_hub.data.prepare import NO_TARGET, TrainingData
from moe_hub.data.row_stream import HeldOut
from moe_hub.data.tokenizer import Tokenizer
from moe_hub.inference import load_checkpoint
from moe_hub.train.evaluation import evaluate_exact_match

MOST_BATCHES = 128


def score(folder: Path, config: Config, corpus: Corpus, mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Scores on the documents of `mask`: for each row nat, targets, right ones and bytes of text; and exact match.

    `exact_match` is [share, low, high] with Wilson's interval, None where no document has an answer.
    """
    data = TrainingData(config, corpus)
    data.shape = replace(data.shape, held_out=HeldOut(corpus.store, config.model.max_seq_len, mask), too_long=~mask)
    model = load_checkpoint(folder).model
    rows: dict[str, list[float]] = {"nll": [], "tokens": [], "right": [], "bytes": []}
    for batch in data.eval_batches(MOST_BATCHES):
        for name, values in _of_batch(model, batch, corpus.tokenizer).items():
            rows[name] += values
    tasks = data.task_batches(None)
    found = evaluate_exact_match(model, tasks)
    names = ("val/exact_match", "val/exact_match_ci_low", "val/exact_match_ci_high")
    return {
        "rows": rows,
        "samples": sum(len(task.steps) for task in tasks),
        "exact_match": [found[name] for name in names] if names[0] in found else None,
    }


@torch.no_grad()
def _of_batch(model: Any, batch: Batch, tokenizer: Tokenizer) -> dict[str, list[float]]:
    logits = model(input_ids=batch.input_ids_BT, documents=batch.documents_BT).logits[:, :-1].float()
    target_BT = batch.labels_BT[:, 1:]
    kept_BT = target_BT != NO_TARGET
    nll_BT = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), target_BT.flatten(), ignore_index=NO_TARGET, reduction="none"
    ).view_as(target_BT)
    right_BT = (logits.argmax(-1) == target_BT) & kept_BT
    return {
        "nll": nll_BT.double().sum(1).tolist(),
        "tokens": kept_BT.sum(1).tolist(),
        "right": right_BT.sum(1).tolist(),
        "bytes": [_bytes(row, tokenizer) for row in target_BT],
    }


def _bytes(target_T: Tensor, tokenizer: Tokenizer) -> float:
    """Bytes of the text that the targets of a row stand for; an end token stands for none.

    Each stretch of targets is decoded by itself, so that nothing is put between one document and the next.
    """
    special = {NO_TARGET, tokenizer.eos_id, tokenizer.bos_id, tokenizer.pad_id}
    stretches = groupby(target_T.tolist(), lambda each: each in special)
    return sum(len(tokenizer.decode(ids).encode()) for is_special, ids in stretches if not is_special)
