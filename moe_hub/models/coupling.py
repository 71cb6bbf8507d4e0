"""Coupling of the experts of a layer by hypergraph convolution.

Legend: E experts, H hyperedges, N tokens (B x T), D d_model, R coupling width (D / 4).

Bai et al. 2019 (arXiv 1901.08150), eq. 5: X' = D^-1 H W B^-1 H^T X Theta. With unit weights on a regular
hypergraph that matrix is doubly stochastic and disappears under a mean readout; a single hyperedge cancels its
own weight. Hence self-hyperedges of weight 1, a residual, a nonlinearity on each node, and a gated readout:

    w = softplus(rho),  M = (I + H W B^-1 H^T) / (1 + H w)          row-stochastic, positive
    D' = D + s * GELU(M norm(D) W1) U
"""

from __future__ import annotations

import math
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_hub.config import CouplingConfig


def hyperedges(strategy: str, num_experts: int) -> list[tuple[int, ...]]:
    """The hyperedges of a strategy as tuples of experts, in a fixed order; empty where there are too few experts."""
    experts = range(num_experts)
    if num_experts < 2:
        return []
    if strategy == "all":
        return [tuple(experts)]
    sizes = {"all_pairs": [2], "all_triplets": [3], "all_orders": list(range(2, num_experts + 1))}[strategy]
    return [edge for size in sizes for edge in combinations(experts, size)]


def incidence(edges: list[tuple[int, ...]], num_experts: int) -> Tensor:
    """Incidence matrix (E, H), float32: 1 where an expert belongs to a hyperedge."""
    matrix_EH = torch.zeros(num_experts, len(edges))
    for column, edge in enumerate(edges):
        matrix_EH[list(edge), column] = 1.0
    return matrix_EH


def mixing_matrix(incidence_EH: Tensor, weight_H: Tensor) -> Tensor:
    """M (E, E) of the module docstring; every row sums to 1 and every entry is >= 0."""
    size_H = incidence_EH.sum(0).clamp(min=1)
    messages_EE = (incidence_EH * (weight_H / size_H)) @ incidence_EH.T
    identity_EE = torch.eye(incidence_EH.shape[0], dtype=messages_EE.dtype, device=messages_EE.device)
    return (identity_EE + messages_EE) / (1 + incidence_EH @ weight_H).unsqueeze(1)


class HypergraphCoupling(nn.Module):
    """One round of message passing: deltas (E, N, D) to deltas (E, N, D)."""

    def __init__(self, config: CouplingConfig, num_experts: int, d_model: int, out_std: float) -> None:
        super().__init__()
        self.edges = hyperedges(config.strategy, num_experts)
        self.num_experts = num_experts
        self.scale = config.scale
        self.out_std = out_std
        width = d_model // 4
        self.w1_DR = nn.Parameter(torch.empty(d_model, width))
        self.u_RD = nn.Parameter(torch.empty(width, d_model))
        learnable = config.learnable_edge_weights and bool(self.edges)
        self.rho_H = nn.Parameter(torch.empty(len(self.edges))) if learnable else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights 1 for every hyperedge; U small but not 0, or the hyperedges would get no gradient at first."""
        nn.init.normal_(self.w1_DR, std=0.02)
        nn.init.normal_(self.u_RD, std=self.out_std)
        if self.rho_H is not None:
            nn.init.constant_(self.rho_H, math.log(math.e - 1))

    def edge_weights(self) -> Tensor:
        """Hyperedge weights w (H,), positive."""
        if self.rho_H is None:
            return torch.ones(len(self.edges), device=self.w1_DR.device)
        return F.softplus(self.rho_H)

    def mixing(self) -> Tensor:
        """M (E, E) with the present weights."""
        weight_H = self.edge_weights()
        return mixing_matrix(incidence(self.edges, self.num_experts).to(weight_H), weight_H)

    def forward(self, delta_END: Tensor) -> Tensor:
        node_END = F.rms_norm(delta_END, delta_END.shape[-1:])
        projected_ENR = node_END @ self.w1_DR  # M (H W1) = (M H) W1, and R is a quarter of D
        mix_EE = self.mixing().to(projected_ENR.dtype)
        message_ENR = (mix_EE @ projected_ENR.flatten(1)).view_as(projected_ENR)
        return delta_END + self.scale * (F.gelu(message_ENR) @ self.u_RD)
