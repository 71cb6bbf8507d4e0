"""Coupling of the experts of a layer: the interface, and hypergraph convolution.

Legend: E experts, G ghosts, A ghosts that are awake, X = E + G nodes, H hyperedges, N tokens (B x T), D d_model,
R coupling width (D / 4).

Bai et al. 2019 (arXiv 1901.08150), eq. 5: X' = D^-1 H W B^-1 H^T X Theta. With unit weights on a regular
hypergraph that matrix is doubly stochastic and disappears under a mean readout; a single hyperedge cancels its
own weight. Hence self-hyperedges of weight 1, a residual, a nonlinearity on each node, and a gated readout:

    w = softplus(rho),  M = (I + H W B^-1 H^T) / (1 + H w)          row-stochastic, positive
    D' = D + s * GELU(M norm(D) W1) U
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_hub.architectures import ghost_hyperedges, hyperedges
from moe_hub.config.model import ModelConfig
from moe_hub.models.fused import normed_projection

UNIT = math.log(math.e - 1)  # softplus(UNIT) = 1


@dataclass(frozen=True)
class AwakeGhosts:
    """The ghosts of a layer that are not dormant: their indices, deltas, activations of all, and output weights."""

    index_A: Tensor
    delta_AND: Tensor
    activation_G: Tensor
    u_ARD: Tensor


class Coupling(nn.Module, ABC):
    """One round of message passing: deltas (E, N, D) to deltas (E, N, D)."""

    @abstractmethod
    def forward(self, delta_END: Tensor) -> Tensor: ...

    @abstractmethod
    def measure(self, delta_END: Tensor, activation_G: Tensor | None) -> dict[str, Tensor]:
        """Metrics of the round, by name, from some tokens' deltas and the activation of the ghosts."""


class HypergraphCoupling(Coupling):
    """Hypergraph convolution over the experts, and over those ghosts that are awake."""

    def __init__(self, settings: ModelConfig, num_experts: int, out_std: float) -> None:
        super().__init__()
        strategy, d_model, num_ghosts = settings.coupling.strategy, settings.d_model, settings.num_ghosts
        self.edges = tuple(hyperedges(strategy, num_experts))
        self.ghost_edges = tuple(ghost_hyperedges(strategy, num_experts, num_ghosts))
        self.num_experts, self.num_ghosts = num_experts, num_ghosts
        self.scale = settings.coupling.scale
        self.out_std = out_std
        width = d_model // 4
        self.w1_DR = nn.Parameter(torch.empty(d_model, width))
        self.u_RD = nn.Parameter(torch.empty(width, d_model))
        learnable = settings.coupling.learnable_edge_weights
        self.rho_H = nn.Parameter(torch.empty(len(self.edges))) if learnable and self.edges else None
        # Hyperedges with ghosts share one weight for those that hold experts too, and one for those of ghosts alone.
        self.ghost_class_H = tuple(int(edge[0] >= num_experts) for edge in self.ghost_edges)
        classes = len(set(self.ghost_class_H)) if learnable else 0
        self.ghost_rho = nn.Parameter(torch.empty(classes)) if classes else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights 1 for every hyperedge; U small but not 0, or the hyperedges would get no gradient at first."""
        nn.init.normal_(self.w1_DR, std=0.02)
        nn.init.normal_(self.u_RD, std=self.out_std)
        for rho in (self.rho_H, self.ghost_rho):
            if rho is not None:
                nn.init.constant_(rho, UNIT)

    def edge_weights(self) -> Tensor:
        """Weights w (H,) of the hyperedges among experts, positive."""
        if self.rho_H is None:
            return torch.ones(len(self.edges), device=self.w1_DR.device, dtype=self.w1_DR.dtype)
        return F.softplus(self.rho_H)

    def ghost_edge_weights(self, activation_G: Tensor) -> Tensor:
        """Weights of the hyperedges with ghosts: that of their class times the activations of their ghosts."""
        member_GH = incidence(self.ghost_edges, self.num_experts + self.num_ghosts, self.w1_DR.device)
        member_GH = member_GH[self.num_experts :].bool()
        awake_H = torch.where(member_GH, activation_G.to(self.w1_DR.dtype).unsqueeze(1), 1.0).prod(0)
        if self.ghost_rho is None:
            return awake_H
        classes = torch.tensor(self.ghost_class_H, device=awake_H.device)
        return F.softplus(self.ghost_rho)[classes] * awake_H

    def mixing(self) -> Tensor:
        """M (E, E) of the experts among themselves."""
        return mixing_matrix(incidence(self.edges, self.num_experts, self.w1_DR.device), self.edge_weights())

    def mixing_with_ghosts(self, activation_G: Tensor) -> Tensor:
        """M (X, X) of experts and ghosts; the row and column of a ghost with activation 0 are those of the identity."""
        nodes_XH = incidence(self.edges + self.ghost_edges, self.num_experts + self.num_ghosts, self.w1_DR.device)
        return mixing_matrix(nodes_XH, torch.cat((self.edge_weights(), self.ghost_edge_weights(activation_G))))

    def forward(self, delta_END: Tensor) -> Tensor:
        projected_ENR = self._projected(delta_END)
        return self._send(delta_END, _mix(self.mixing(), projected_ENR))

    def with_ghosts(self, delta_END: Tensor, ghosts: AwakeGhosts) -> tuple[Tensor, Tensor]:
        """Deltas of the experts (E, N, D) and of the awake ghosts (A, N, D).

        What experts hear from each other stays as it is without ghosts; a ghost's own message comes on top, so a ghost
        whose delta is 0 changes nothing.
        """
        experts, awake_A = self.num_experts, ghosts.index_A + self.num_experts
        mix_XX = self.mixing_with_ghosts(ghosts.activation_G)
        projected_ENR, ghost_ANR = self._projected(delta_END), self._projected(ghosts.delta_AND)
        message_ENR = _mix(self.mixing(), projected_ENR) + _mix(mix_XX[:experts, awake_A], ghost_ANR)
        message_ANR = _mix(mix_XX[awake_A, :experts], projected_ENR)
        message_ANR = message_ANR + _mix(mix_XX[awake_A][:, awake_A], ghost_ANR)
        answer_AND = torch.bmm(F.gelu(message_ANR), ghosts.u_ARD.to(message_ANR.dtype))
        return self._send(delta_END, message_ENR), ghosts.delta_AND + self.scale * answer_AND

    def measure(self, delta_END: Tensor, activation_G: Tensor | None) -> dict[str, Tensor]:
        if activation_G is None:
            found = {"coupling/adjacency": self.mixing()}
            return found | ({"coupling/hyperedge_weight": self.edge_weights()} if self.edges else {})
        weight_H = torch.cat((self.edge_weights(), self.ghost_edge_weights(activation_G)))
        mix_XX = self.mixing_with_ghosts(activation_G)
        mix_XX[: self.num_experts, : self.num_experts] = self.mixing()  # what experts hear from each other, as above
        found = {"coupling/adjacency": mix_XX}
        return found | ({"coupling/hyperedge_weight": weight_H} if len(weight_H) else {})

    def _projected(self, delta_XND: Tensor) -> Tensor:
        """norm(D) W1: mixing then costs a quarter, for M (H W1) = (M H) W1."""
        return normed_projection(delta_XND, self.w1_DR.to(delta_XND.dtype))

    def _send(self, delta_END: Tensor, message_ENR: Tensor) -> Tensor:
        """D + s GELU(message) U, in one product."""
        answer = F.gelu(message_ENR).flatten(0, 1)
        u_RD = self.u_RD.to(answer.dtype)
        return torch.addmm(delta_END.flatten(0, 1), answer, u_RD, alpha=self.scale).view_as(delta_END)


def mixing_matrix(incidence_XH: Tensor, weight_H: Tensor) -> Tensor:
    """M (X, X) of the module docstring; every row sums to 1 and every entry is >= 0."""
    with torch.autocast(weight_H.device.type, enabled=False):
        incidence_XH = incidence_XH.to(weight_H.dtype)
        size_H = incidence_XH.sum(0).clamp(min=1)
        messages_XX = (incidence_XH * (weight_H / size_H)) @ incidence_XH.T
        identity_XX = torch.eye(len(incidence_XH), dtype=weight_H.dtype, device=weight_H.device)
        return (identity_XX + messages_XX) / (1 + incidence_XH @ weight_H).unsqueeze(1)


@lru_cache(maxsize=64)
def incidence(edges: tuple[tuple[int, ...], ...], num_nodes: int, device: torch.device) -> Tensor:
    """Incidence matrix (X, H), fp32: 1 where a node belongs to a hyperedge."""
    with torch.inference_mode(False):
        matrix_XH = torch.zeros(num_nodes, len(edges), device="cpu")
        for column, edge in enumerate(edges):
            matrix_XH[list(edge), column] = 1.0
        return matrix_XH.to(device)


def _mix(mix_YX: Tensor, message_XNR: Tensor) -> Tensor:
    """Rows of the matrix applied to the nodes, as one product: (Y, N, R)."""
    mixed = mix_YX.to(message_XNR.dtype) @ message_XNR.flatten(1)
    return mixed.view(-1, *message_XNR.shape[1:])
