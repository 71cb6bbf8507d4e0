"""topk: each token is sent to its K best experts, the sparse baseline.

Legend: E experts, K experts per token, N tokens, S = N x K token-expert pairs, D d_model, F hidden width.

Token-choice routing without dropping (Mixtral, arXiv 2401.04088; OLMoE, arXiv 2409.02060): the router's softmax over
all experts, its K largest values, renormalised. Pairs are sorted by expert, so each expert works on one contiguous
block of rows. Attention is shared. Losses: load balance E sum_e f_e P_e with f_e the share of pairs and P_e the mean
probability of expert e (Switch, arXiv 2101.03961, eq. 4; 1 when even), and z, the mean squared log-sum-exp of the
logits (ST-MoE, arXiv 2202.08906, eq. 5).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_hub.architectures import swiglu_width
from moe_hub.config.model import ModelConfig
from moe_hub.models import measures
from moe_hub.models.attention import SAMPLE, Context, StackedAttention, attention, compute_dtype
from moe_hub.models.base import Layer, Record, Terms
from moe_hub.models.pointwise import norm, squared_relu
from moe_hub.models.record import at_least_fp32
from moe_hub.models.shared_tokens import per_token, shared, sharing

PAD_ROWS = 8


@dataclass(frozen=True)
class Routes:
    """Where each token goes: experts (N, K) and their weights; logits and probabilities (N, E) in at least fp32."""

    expert_NK: Tensor
    weight_NK: Tensor
    logits_NE: Tensor
    probability_NE: Tensor


def route(x_ND: Tensor, router_ED: Tensor, top_k: int) -> Routes:
    """The K experts with the highest probability for each token, weights summing to 1."""
    logits_NE = at_least_fp32(x_ND @ router_ED.T.to(x_ND.dtype))
    probability_NE = torch.softmax(logits_NE, dim=-1)
    top_NK, expert_NK = probability_NE.topk(top_k, dim=-1)
    return Routes(expert_NK, top_NK / top_NK.sum(-1, keepdim=True), logits_NE, probability_NE)


def grouped(rows_SD: Tensor, weight_EOD: Tensor, sizes: list[int] | None, ends_E: Tensor) -> Tensor:
    """Rows times the transposed weight of their expert, (S, O); `sizes` None uses one fused kernel."""
    if sizes is None:
        result: Tensor = F.grouped_mm(rows_SD, weight_EOD.transpose(1, 2), offs=ends_E)
        return result
    blocks = torch.split(rows_SD, sizes)
    return torch.cat([F.linear(block, weight) for block, weight in zip(blocks, weight_EOD, strict=True)])


class SparseExperts(nn.Module):
    """Router and feed-forwards of E experts; each token passes through `top_k` of them."""

    def __init__(self, settings: ModelConfig, out_std: float) -> None:
        super().__init__()
        d_model, experts = settings.d_model, settings.num_experts
        self.top_k, self.out_std = settings.topk.top_k, out_std
        self.gated = settings.topk.activation == "swiglu"
        width = swiglu_width(d_model) if self.gated else 4 * d_model
        self.router_ED = nn.Parameter(torch.empty(experts, d_model))
        self.w1_EFD = nn.Parameter(torch.empty(experts, 2 * width if self.gated else width, d_model))
        self.w2_EDF = nn.Parameter(torch.empty(experts, d_model, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal, std 0.02; output projection scaled with depth; router small, or all tokens would tie."""
        nn.init.normal_(self.router_ED, std=0.02)
        nn.init.normal_(self.w1_EFD, std=0.02)
        nn.init.normal_(self.w2_EDF, std=self.out_std)

    def forward(self, x_ND: Tensor) -> tuple[Tensor, Routes, Tensor]:
        """The experts' weighted sum (N, D), the routes, and each pair's output (N, K, D) before its weight."""
        routes = route(x_ND, self.router_ED, self.top_k)
        out_NKD = self._through_experts(x_ND, routes)
        said_ND = (out_NKD * routes.weight_NK.unsqueeze(-1).to(out_NKD.dtype)).sum(1)
        return said_ND, routes, out_NKD

    def _through_experts(self, x_ND: Tensor, routes: Routes) -> Tensor:
        """Each block of rows is padded to a multiple of `PAD_ROWS`.

        BLAS has other kernels for very few rows; with padding a token's result does not depend, to the last bit, on
        how many others go to its expert.
        """
        pairs, experts = routes.expert_NK.numel(), len(self.w1_EFD)
        row_S, padded_E, total = _places(routes.expert_NK.flatten(), experts)
        pair_SD = x_ND.unsqueeze(1).expand(-1, self.top_k, -1).reshape(pairs, -1)
        dtype = compute_dtype(self.w1_EFD)
        rows = pair_SD.new_zeros(total, pair_SD.shape[-1], dtype=dtype).index_copy(0, row_S, pair_SD.to(dtype))
        sizes = None if x_ND.is_cuda and dtype == torch.bfloat16 else padded_E.tolist()
        ends_E = padded_E.cumsum(0).int()
        hidden = self._activate(grouped(rows, self.w1_EFD.to(dtype), sizes, ends_E))
        return grouped(hidden, self.w2_EDF.to(dtype), sizes, ends_E)[row_S].view(*routes.expert_NK.shape, -1)

    def _activate(self, hidden: Tensor) -> Tensor:
        if not self.gated:
            return squared_relu(hidden)
        gate, up = hidden.chunk(2, dim=-1)
        return F.silu(gate) * up


def _places(expert_S: Tensor, experts: int) -> tuple[Tensor, Tensor, int]:
    """Row of each pair when pairs are sorted by expert, rows per expert with padding (E,), and rows in all.

    The number of rows does not depend on the routes: what is left goes to the last expert as padding.
    """
    count_E = torch.bincount(expert_S, minlength=experts)
    total = ((len(expert_S) + PAD_ROWS - 1) // PAD_ROWS + experts) * PAD_ROWS
    padded_E = ((count_E + PAD_ROWS - 1) // PAD_ROWS).clamp(min=1) * PAD_ROWS
    padded_E[-1] += total - padded_E.sum()
    order_S = expert_S.argsort(stable=True)
    within_S = torch.arange(len(expert_S), device=expert_S.device)
    shift_E = (padded_E.cumsum(0) - padded_E) - (count_E.cumsum(0) - count_E)
    row_S = torch.empty_like(order_S)
    row_S[order_S] = within_S + shift_E[expert_S[order_S]]
    return row_S, padded_E, total


@dataclass(frozen=True)
class SparseRecord:
    """Routes of the tokens and the output of each token-expert pair before its weight, (N, K, D)."""

    routes: Routes
    out_NKD: Tensor

    @property
    def contribution_END(self) -> Tensor:
        """What each expert adds to the stream, (E, N, D); 0 for tokens that are not sent to it."""
        weighed_NKD = self.out_NKD * self.routes.weight_NK.unsqueeze(-1).to(self.out_NKD.dtype)
        tokens, experts = self.routes.probability_NE.shape
        at_NKD = self.routes.expert_NK.unsqueeze(-1).expand_as(weighed_NKD)
        spread_NED = weighed_NKD.new_zeros(tokens, experts, weighed_NKD.shape[-1]).scatter(1, at_NKD, weighed_NKD)
        return spread_NED.transpose(0, 1)

    def sampled(self, index_N: Tensor) -> SparseRecord:
        routes = self.routes
        picked = Routes(
            routes.expert_NK[index_N], routes.weight_NK[index_N], routes.logits_NE[index_N],
            routes.probability_NE[index_N],
        )  # fmt: skip
        return SparseRecord(picked, at_least_fp32(self.out_NKD[index_N]))


def load_balance(routes: Routes) -> Tensor:
    """E sum_e f_e P_e (Switch, eq. 4): 1 when tokens and probabilities are even, up to E."""
    tokens, top_k = routes.expert_NK.shape
    experts = routes.probability_NE.shape[1]
    count_E = torch.bincount(routes.expert_NK.flatten(), minlength=experts).to(routes.probability_NE)
    pairs_E, mean_E = per_token(torch.stack((count_E, routes.probability_NE.sum(0))), tokens)
    balance: Tensor = experts / top_k * (pairs_E * mean_E).sum()
    return balance


class TopkLayer(Layer):
    """y = x + u + sum of w_e(x) FFN_e(norm(x + u)) over the K best experts of each token, u = Attention(norm x)."""

    def __init__(self, settings: ModelConfig, index: int) -> None:
        super().__init__(index, settings.num_experts)
        self.settings = settings
        out_std = 0.02 / (2 * settings.num_layers) ** 0.5
        self.shared_attention = StackedAttention(1, settings.d_model, out_std)
        self.feed_forward = SparseExperts(settings, out_std)

    def forward(self, x_BTD: Tensor, context: Context) -> tuple[Tensor, SparseRecord]:
        settings = self.settings
        dropout = settings.dropout if self.training else 0.0
        u_ND = attention(
            norm(x_BTD), self.shared_attention.qkv_EOD, self.shared_attention.out_EDD, context, self.index,
            settings.num_heads, settings.rope_base, dropout,
        )  # fmt: skip
        x_BTD = x_BTD + u_ND.view_as(x_BTD)
        said_ND, routes, out_NKD = self.feed_forward(norm(x_BTD).flatten(0, 1))
        if dropout:
            said_ND = F.dropout(said_ND, dropout)
        return x_BTD + said_ND.view_as(x_BTD), SparseRecord(routes, out_NKD)

    def observe(self, record: Record, context: Context) -> Terms:
        """`load_balance` and `router_z`, over the tokens that are not padding."""
        assert isinstance(record, SparseRecord)
        routes, real_N, settings = record.routes, context.real(), self.settings.topk
        if real_N is not None:
            routes = Routes(*(part[real_N] for part in vars(routes).values()))
        if not len(routes.expert_NK) and sharing() is None:
            return {}
        balance = load_balance(routes)
        z = per_token(routes.logits_NE.logsumexp(-1).square().sum(), len(routes.logits_NE))
        return {
            "load_balance": (balance, settings.load_balance_weight * balance),
            "router_z": (z, settings.router_z_weight * z),
        }

    def measure(self, record: Record) -> dict[str, Tensor]:
        assert isinstance(record, SparseRecord)
        if self.num_experts == 1:
            return {}
        length_EN = record.contribution_END.norm(dim=-1)
        rows_END = self.feed_forward.w1_EFD[:, :: max(1, self.feed_forward.w1_EFD.shape[1] // SAMPLE)]
        with shared(None):
            weight_overlap = measures.normalised_overlap(rows_END)
        return {
            "expert/load": measures.load_share(length_EN),
            "expert/utilization": measures.utilization(length_EN, self.num_experts),
            "expert/specialization": measures.specialization(record.routes.probability_NE),
            "expert/weight_overlap": weight_overlap,
            "router/entropy": measures.gate_entropy(record.routes.probability_NE),
        }
