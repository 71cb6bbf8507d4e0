"""The interface of every architecture's layers.

Legend: E experts, G ghosts, B batch, T time, N = B x T tokens, D d_model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol, Self

from torch import Tensor, nn

from moe_hub.models.attention import Context
from moe_hub.models.expert import ExpertWeights
from moe_hub.models.rotation import Rotation

if TYPE_CHECKING:
    from moe_hub.models.ghost_experts import Ghosts
    from moe_hub.models.orthogonal import OverlapController

Terms = dict[str, tuple[Tensor, Tensor]]


class Record(Protocol):
    """What a layer leaves behind for measurement."""

    @property
    def contribution_END(self) -> Tensor:
        """What each expert, then each ghost, adds to the stream, (E + G, N, D)."""

    def sampled(self, index_N: Tensor) -> Self:
        """The record on some tokens, in at least fp32."""


class Layer(nn.Module, ABC):
    """One layer. `index` is its place, from 0; what an architecture lacks is None.

    `statistics` collects one tensor for each training forward pass since the last optimizer step; what adapts between
    steps reads and empties it.
    """

    def __init__(self, index: int, num_experts: int) -> None:
        super().__init__()
        self.index, self.num_experts = index, num_experts
        self.rotation: Rotation | None = None
        self.ghosts: Ghosts | None = None
        self.controller: OverlapController | None = None
        self.statistics: list[Tensor] = []

    @abstractmethod
    def forward(self, x_BTD: Tensor, context: Context) -> tuple[Tensor, Record]:
        """The stream after this layer, and what it leaves for measurement."""

    def observe(self, record: Record, context: Context) -> Terms:
        """Called in training after each forward pass: collects statistics, and returns terms of the loss by name.

        Each is a pair: the bare value that is logged, and the weighted one that is added to the loss.
        """
        return {}

    def overlap(self, record: Record) -> Tensor | None:
        """Normalised overlap of the deltas in a sampled record, differentiable; None for a single expert."""
        return None

    def specialization(self, record: Record) -> Tensor | None:
        """Normalised mutual information of token and expert, differentiable; None for a single expert."""
        return None

    def busiest_expert(self) -> ExpertWeights:
        """Weights, as a stack of one, of the expert that gave most of the output lately; for layers with ghosts."""
        raise TypeError(f"{type(self).__name__} has no ghosts that could copy an expert")

    def measure(self, record: Record) -> dict[str, Tensor]:
        """Metrics by name from a sampled record; those of a group `probe` are kept for the first layer only."""
        return {}
