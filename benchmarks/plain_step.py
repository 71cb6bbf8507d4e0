"""Training steps of the reference models: cross-entropy, backward, clip, and torch's AdamW as it comes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.first_implementation import FirstModel
from benchmarks.naive import NaiveModel, NaiveShape
from benchmarks.timing import Built
from benchmarks.training_step import Shape, optimize


def next_token_loss(logits_BTV: Tensor, ids_BT: Tensor) -> Tensor:
    """Mean cross-entropy of token t + 1 given the tokens up to t."""
    return F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), ids_BT[:, 1:].flatten())


def plain_step(model: nn.Module, shape: Shape) -> Built:
    """The step of a model that maps ids to logits, fp32."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batches = shape.batches()

    def step() -> None:
        ids_BT = next(batches).input_ids_BT
        optimize(model, optimizer, next_token_loss(model(ids_BT), ids_BT), 1.0)

    return Built(step, {"precision": "fp32", "parameters": sum(each.numel() for each in model.parameters())})


def build_naive(architecture: str, overrides: dict[str, Any] | None = None, shape: Shape | None = None) -> Built:
    """The plain model of the same function as `architecture`'s."""
    shape = shape or Shape()
    torch.manual_seed(0)
    settings = shape.config(architecture, overrides).model
    return plain_step(NaiveModel(NaiveShape.of(settings, shape.vocab)).train(), shape)


def build_first(experts: int, ghosts: int = 0, dropout: float = 0.0, shape: Shape | None = None) -> Built:
    """The first implementation's step."""
    shape = shape or Shape()
    torch.manual_seed(0)
    return plain_step(FirstModel(shape, experts, ghosts, dropout).train(), shape)
