"""gnn: experts that exchange messages over a graph whose edges depend on the token.

Legend: E experts, N tokens, D d_model, R coupling width (D / 4).

Content-gated message passing, with the residual and the gated readout of the other architectures:

    H = norm(D),  c_ij(n) = sigmoid(p . H_i(n) + q . H_j(n) + b),  S_ij(n) = sigmoid(A_ij) c_ij(n) / (E - 1) for i != j
    D' = D + s * GELU(H W_s + (S H) W_n) U

Expert i reads j by a learned edge A_ij and by what both hold of the token. The factor 1 / (E - 1) keeps the length of
the messages independent of the number of experts. Related: GMoE's graph router (arXiv 2412.16216), Chain-of-Experts
(arXiv 2506.18945).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_hub.config.model import ModelConfig
from moe_hub.models.coupling import Coupling
from moe_hub.models.layer import ExpertLayer
from moe_hub.models.pointwise import norm
from moe_hub.models.shared_tokens import per_token


class GraphCoupling(Coupling):
    """One round of content-gated message passing: deltas (E, N, D) to deltas (E, N, D)."""

    def __init__(self, settings: ModelConfig, num_experts: int, out_std: float) -> None:
        super().__init__()
        d_model, width = settings.d_model, settings.d_model // 4
        self.num_experts = num_experts
        self.scale = settings.coupling.scale
        self.out_std = out_std
        edges = torch.empty(num_experts * (num_experts - 1))
        self.edge_logit = nn.Parameter(edges) if settings.coupling.learnable_edge_weights else None
        self.content_2D = nn.Parameter(torch.empty(2, d_model))  # p of the reader, q of the one that is read
        self.bias = nn.Parameter(torch.empty(1))
        self.w_self_DR = nn.Parameter(torch.empty(d_model, width))
        self.w_neighbour_DR = nn.Parameter(torch.empty(d_model, width))
        self.u_RD = nn.Parameter(torch.empty(width, d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All edges alike; U small but not 0, or the edges would get no gradient at first."""
        for weight in (self.content_2D, self.w_self_DR, self.w_neighbour_DR):
            nn.init.normal_(weight, std=0.02)
        nn.init.normal_(self.u_RD, std=self.out_std)
        nn.init.zeros_(self.bias)
        if self.edge_logit is not None:
            nn.init.zeros_(self.edge_logit)

    def edge_weights(self) -> Tensor:
        """sigmoid(A) without the diagonal, row by row, (E (E - 1),)."""
        if self.edge_logit is None:
            return self.bias.new_full((self.num_experts * (self.num_experts - 1),), 0.5)
        return torch.sigmoid(self.edge_logit)

    def attention(self, node_END: Tensor) -> Tensor:
        """S (N, E, E): how much expert i (row) reads of j (column) for each token; 0 on the diagonal."""
        experts = self.num_experts
        reader_EN, read_EN = (node_END @ self.content_2D.T.to(node_END.dtype)).unbind(-1)
        content_NEE = torch.sigmoid(reader_EN.T.unsqueeze(2) + read_EN.T.unsqueeze(1) + self.bias.to(node_END.dtype))
        off_EE = ~torch.eye(experts, dtype=torch.bool, device=node_END.device)
        edge_EE = self.bias.new_zeros(experts, experts).masked_scatter(off_EE, self.edge_weights())
        return content_NEE * (edge_EE / (experts - 1)).to(node_END.dtype)

    def forward(self, delta_END: Tensor) -> Tensor:
        node_END = norm(delta_END)
        weights_D2R = torch.cat((self.w_self_DR, self.w_neighbour_DR), dim=1).to(node_END.dtype)
        own_ENR, sent_ENR = (node_END @ weights_D2R).chunk(2, dim=-1)
        heard_NER = torch.bmm(self.attention(node_END), sent_ENR.transpose(0, 1))
        answer = F.gelu(own_ENR + heard_NER.transpose(0, 1)).flatten(0, 1)
        u_RD = self.u_RD.to(answer.dtype)
        return torch.addmm(delta_END.flatten(0, 1), answer, u_RD, alpha=self.scale).view_as(delta_END)

    def measure(self, delta_END: Tensor, activation_G: Tensor | None) -> dict[str, Tensor]:
        attention_NEE = self.attention(norm(delta_END))
        mean_EE = per_token(attention_NEE.sum(0), len(attention_NEE))
        return {"coupling/adjacency": mean_EE, "coupling/edge_weight": self.edge_weights()}


class GnnLayer(ExpertLayer):
    """y = x + sum_e pi_e(x) C(D)_e with C the message passing above."""

    def __init__(self, settings: ModelConfig, index: int) -> None:
        super().__init__(settings, index, settings.num_experts, coupling=GraphCoupling)
