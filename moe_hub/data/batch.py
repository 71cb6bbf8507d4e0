"""A batch of packed token sequences.

Legend: B batch, T time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Token ids, labels (not shifted; -100 is no target) and document numbers (0 is padding), each int64 (B, T)."""

    input_ids_BT: Tensor
    labels_BT: Tensor
    documents_BT: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; copies without waiting where the memory allows it."""
        return Batch(
            self.input_ids_BT.to(device, non_blocking=True),
            self.labels_BT.to(device, non_blocking=True),
            self.documents_BT.to(device, non_blocking=True),
        )

    @property
    def tokens(self) -> int:
        """Tokens that are not padding."""
        return int((self.documents_BT > 0).sum())
