"""Experts: attention and feed-forward of all experts of a stack, or the feed-forward alone.

Legend: E experts, B batch, T time, N = B x T tokens, D d_model, F feed-forward width (4 D), O = 3 D.

An expert maps tokens to a delta, without the residual:
    scope block   u = Attention(R x),  D = u + FFN(R norm(x + u))      x normalised, R the expert's rotation
    scope ffn     D = FFN(R x)                                         the attention is shared and not part of it
The rotation is folded into the input weights: W_e (R_e x) = (W_e R_e) x.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_hub.models.attention import Context, attention, compute_dtype, init_inputs
from moe_hub.models.fused import fused_feed_forward, normed_sum
from moe_hub.models.phases import turn_by_phase
from moe_hub.models.pointwise import squared_relu


@dataclass(frozen=True)
class ExpertWeights:
    """Weights of E experts, rotations folded in; without attention where the experts are feed-forwards only."""

    w1_EFD: Tensor
    w2_EDF: Tensor
    qkv_EOD: Tensor | None = None
    out_EDD: Tensor | None = None


@dataclass(frozen=True)
class ExpertSettings:
    """What the functions below need of the config."""

    num_heads: int
    rope_base: float
    dropout: float


def feed_forward(
    x_END: Tensor, w1_EFD: Tensor, w2_EDF: Tensor, dropout: float, residual_END: Tensor | None = None
) -> Tensor:
    """Squared-ReLU feed-forward of E experts, each on its own tokens, plus a residual: (E, N, D)."""
    dtype = compute_dtype(w1_EFD)
    x_END, w1_EFD, w2_EDF = x_END.to(dtype), w1_EFD.to(dtype), w2_EDF.to(dtype)
    residual_END = None if residual_END is None else residual_END.to(dtype)
    if x_END.device.type == "cpu" and not dropout:
        return fused_feed_forward(x_END, w1_EFD, w2_EDF, residual_END)
    hidden_ENF = squared_relu(torch.bmm(x_END, w1_EFD.transpose(1, 2)))
    if dropout:
        hidden_ENF = F.dropout(hidden_ENF, dropout)
    if residual_END is None:
        return torch.bmm(hidden_ENF, w2_EDF.transpose(1, 2))
    return torch.baddbmm(residual_END, hidden_ENF, w2_EDF.transpose(1, 2))


def expert_deltas(
    x_BTD: Tensor, seen_BTD: Tensor, weights: ExpertWeights, context: Context, slot: int, settings: ExpertSettings
) -> Tensor:
    """Deltas (E, N, D) of the experts on the stream `x_BTD` and its norm `seen_BTD`."""
    turned_BTD = turn_by_phase(seen_BTD, context.phase_cos_BT1, context.phase_sin_BT1)
    if weights.qkv_EOD is None or weights.out_EDD is None:
        inner_END = turned_BTD.flatten(0, 1).expand(weights.w1_EFD.shape[0], -1, -1)
        return feed_forward(inner_END, weights.w1_EFD, weights.w2_EDF, settings.dropout)
    u_END = attention(
        turned_BTD, weights.qkv_EOD, weights.out_EDD, context, slot, settings.num_heads, settings.rope_base,
        settings.dropout,
    )  # fmt: skip
    inner_END = normed_sum(x_BTD.flatten(0, 1), u_END)
    if context.phase_cos_BT1 is not None:
        inner_EBTD = inner_END.view(-1, *x_BTD.shape)
        inner_END = turn_by_phase(inner_EBTD, context.phase_cos_BT1, context.phase_sin_BT1).flatten(1, 2)
    return feed_forward(inner_END, weights.w1_EFD, weights.w2_EDF, settings.dropout, residual_END=u_END)


class StackedFeedForward(nn.Module):
    """The weights of E feed-forwards: (E, F, D) and (E, D, F). No biases."""

    def __init__(self, num_experts: int, d_model: int, out_std: float, *, orthonormal: bool = False) -> None:
        super().__init__()
        self.out_std = out_std
        self.orthonormal = orthonormal
        self.w1_EFD = nn.Parameter(torch.empty(num_experts, 4 * d_model, d_model))
        self.w2_EDF = nn.Parameter(torch.empty(num_experts, d_model, 4 * d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Entries of size 0.02, output projection scaled with depth; input columns orthonormal where asked for."""
        init_inputs(self.w1_EFD, orthonormal=self.orthonormal)
        nn.init.normal_(self.w2_EDF, std=self.out_std)
