"""What a forward pass returns, and the loss.

Legend: B batch, T time, D d_model, V vocab.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.cache_utils import Cache
from transformers.modeling_outputs import ModelOutput

from moe_hub.models.shared_tokens import per_token


@dataclass
class LanguageModelOutput(ModelOutput):  # type: ignore[misc]
    """`loss`: mean cross-entropy in nat per predicted token; `logits` (B, T, V).

    `terms` are bare values of further terms of the loss: those of the geometric loss where asked for (see
    `LanguageModel.geometric_terms`) and, in training, those of the architecture itself, whose weighted sum is
    `auxiliary`. `measures` are metrics by name.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    cache: Cache | None = None
    terms: dict[str, Tensor] | None = None
    auxiliary: Tensor | None = None
    measures: dict[str, Tensor] | None = None


def next_token_loss(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """Mean cross-entropy of predicting label t + 1 at position t, over labels that are not -100; 0 if none is."""
    target = labels_BT[:, 1:].flatten()
    total = F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), target, ignore_index=-100, reduction="sum")
    return per_token(total, (target != -100).sum())


def chunked_loss(hidden_BTD: Tensor, head_VD: Tensor, labels_BT: Tensor, chunk: int) -> Tensor:
    """`next_token_loss` without the logits of all tokens in memory at once.

    Only positions with a target are computed, `chunk` at a time, and computed again in the backward pass. It saves
    memory with large vocabularies, and costs one more product with the head.
    """
    target = labels_BT[:, 1:].flatten()
    kept = target != -100
    hidden_ND, target = hidden_BTD[:, :-1].flatten(0, 1)[kept], target[kept]
    total = hidden_ND.new_zeros((), dtype=torch.float32)
    for part_ND, wanted in zip(torch.split(hidden_ND, chunk), torch.split(target, chunk), strict=True):
        part: Tensor = checkpoint(_summed_loss, part_ND, head_VD, wanted, use_reentrant=False)
        total = total + part
    return per_token(total, len(target))


def _summed_loss(hidden_ND: Tensor, head_VD: Tensor, target_N: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden_ND, head_VD).float(), target_N, reduction="sum")
