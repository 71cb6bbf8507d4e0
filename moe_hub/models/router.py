"""The readout gate: how the outputs of the experts of a layer are summed.

Legend: N tokens, E experts, A ghosts that are awake, D d_model. pi = softmax(x G^T) in fp32; G = 0 at the start, so
that the gate begins as the plain mean.
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

    def forward(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """The gate and its logits, both (N, E) and at least fp32."""
        logits_NE = x_ND @ self.weight_ED.T.to(x_ND.dtype)
        logits_NE = logits_NE if logits_NE.dtype == torch.float64 else logits_NE.float()
        return torch.softmax(logits_NE, dim=-1), logits_NE


def ghost_shares(logits_NE: Tensor, ghost_logits_NA: Tensor, activation_A: Tensor) -> Tensor:
    """Shares of the awake ghosts (N, A): their part of a softmax over all, in which ghost g counts a_g times.

    The shares of the experts stay as they are: a ghost adds its correction to what the experts say together, which is
    the same as a softmax over all in which the ghost says "the experts' mixture + my correction". So a ghost whose
    output is 0 changes nothing, for any a_g.
    """
    scaled_NA = ghost_logits_NA + activation_A.log()
    return torch.softmax(torch.cat((logits_NE, scaled_NA), dim=-1), dim=-1)[:, logits_NE.shape[1] :]
