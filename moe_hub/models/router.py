"""The readout gate: how the outputs of the experts of a layer are summed.

Legend: N tokens, E experts, D d_model. pi = softmax(x G^T) in fp32; G = 0 at the start, so that the gate begins
as the plain mean.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SoftGate(nn.Module):
    """Gate pi (N, E) from tokens (N, D), rows sum to 1."""

    def __init__(self, num_experts: int, d_model: int) -> None:
        super().__init__()
        self.weight_ED = nn.Parameter(torch.empty(num_experts, d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform gate."""
        nn.init.zeros_(self.weight_ED)

    def forward(self, x_ND: Tensor) -> Tensor:
        return torch.softmax((x_ND @ self.weight_ED.T).float(), dim=-1)
