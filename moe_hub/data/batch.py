"""A batch of packed token sequences.

Legend: B batch, T time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """The part that one of several processes takes of every batch: consecutive rows, as even as they come."""

    index: int
    count: int

    def rows(self, total: int) -> range:
        """Numbers of its rows among `total`; none where there are fewer rows than processes."""
        return range(total * self.index // self.count, total * (self.index + 1) // self.count)


@dataclass(frozen=True)
class Whole:
    """The batch that a part was taken from: tokens of each of its rows, and which rows the part has."""

    fills: tuple[int, ...]
    rows: range


@dataclass(frozen=True)
class Batch:
    """Token ids, labels (not shifted; -100 is no target) and document numbers (0 is padding), each int64 (B, T).

    A part of a batch is as wide as the whole one and knows about it; one without a row has a row of padding instead.
    """

    input_ids_BT: Tensor
    labels_BT: Tensor
    documents_BT: Tensor
    whole: Whole | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; copies without waiting where the memory allows it."""
        return Batch(
            self.input_ids_BT.to(device, non_blocking=True),
            self.labels_BT.to(device, non_blocking=True),
            self.documents_BT.to(device, non_blocking=True),
            self.whole,
        )

    @property
    def tokens(self) -> int:
        """Tokens that are not padding; of a part those of the whole batch."""
        return int((self.documents_BT > 0).sum()) if self.whole is None else sum(self.whole.fills)
