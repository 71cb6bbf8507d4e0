"""Stacked experts: attention and feed-forward of all experts of a layer in a few matrix products.

Legend: E experts, B batch, T time, N = B x T tokens, D d_model, H heads, K head width, F feed-forward width (4D).

The input of the first projections is the same for all experts (rotations are folded into the weights), so they are
one wide product; from there on the stack is (E, N, D) and the products are batched. Norms are RMS norms without a
gain: then norm(R x) = R norm(x) for every rotation R. Positions are rotary (RoPE, Su et al. 2021); queries and keys
are normalised (Henry et al. 2020); the feed-forward uses squared ReLU (So et al. 2021). No biases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXPLICIT_ATTENTION_UP_TO = 512  # tokens; above it torch's fused attention is faster on a CPU in bf16, too


@dataclass(frozen=True)
class Context:
    """What every layer of one forward pass shares."""

    cos_TK: Tensor  # (T, K/2)
    sin_TK: Tensor
    blocked_BTT: Tensor  # True where a query (row) must not see a key (column)
    phase_cos_BT1: Tensor | None = None
    phase_sin_BT1: Tensor | None = None


def norm(x: Tensor) -> Tensor:
    """RMS norm over the last axis, without a gain."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-6)


def rotary_angles(length: int, head_width: int, base: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin (T, K/2) of position x base^(-2i/K)."""
    frequency = base ** (-torch.arange(0, head_width, 2, device=device, dtype=torch.float32) / head_width)
    angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * frequency
    return angle.cos(), angle.sin()


def apply_rotary(x: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Turns the two halves of the head width against each other by the position's angle; x (..., T, K)."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos_TK.to(x.dtype), sin_TK.to(x.dtype)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, blocked_BTT: Tensor, dropout: float) -> Tensor:
    """Softmax attention of q, k, v (E, B, H, T, K) under a mask (B, T, T), True = blocked.

    On a CPU in bf16 the fused kernel's backward is two to four times slower than two batched products and a softmax
    up to 512 tokens; elsewhere the fused kernel is used.
    """
    shape = q.shape
    length = shape[-2]
    short_on_cpu = q.device.type == "cpu" and q.dtype == torch.bfloat16 and length <= EXPLICIT_ATTENTION_UP_TO
    if not short_on_cpu:
        allowed = ~blocked_BTT[None, :, None].expand(shape[0], -1, -1, -1, -1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)
    q, k, v = (tensor.reshape(-1, length, shape[-1]) for tensor in (q, k, v))
    score = torch.bmm(q, k.transpose(1, 2)).view(*shape[:4], length) / math.sqrt(shape[-1])
    score = score.masked_fill(blocked_BTT[None, :, None], float("-inf"))
    weight = F.dropout(torch.softmax(score, dim=-1, dtype=score.dtype), dropout)
    return torch.bmm(weight.view(-1, length, length), v).view(shape)


class StackedAttention(nn.Module):
    """Self-attention of E experts on the same tokens: (B, T, D) to (E, N, D)."""

    def __init__(self, num_experts: int, d_model: int, num_heads: int, out_std: float, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.out_std = out_std
        self.qkv_EOD = nn.Parameter(torch.empty(num_experts, 3 * d_model, d_model))
        self.out_EDD = nn.Parameter(torch.empty(num_experts, d_model, d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal, std 0.02; output projection scaled with depth."""
        nn.init.normal_(self.qkv_EOD, std=0.02)
        nn.init.normal_(self.out_EDD, std=self.out_std)

    def forward(self, x_BTD: Tensor, qkv_EOD: Tensor, context: Context) -> Tensor:
        """`qkv_EOD` is this module's weight, or that weight with a rotation folded in."""
        batch, length, d_model = x_BTD.shape
        experts = qkv_EOD.shape[0]
        qkv = F.linear(x_BTD, qkv_EOD.flatten(0, 1))
        qkv = qkv.view(batch, length, experts, 3, self.num_heads, -1).permute(3, 2, 0, 4, 1, 5)
        q, k, v = qkv.unbind(0)
        q = apply_rotary(norm(q), context.cos_TK, context.sin_TK)
        k = apply_rotary(norm(k), context.cos_TK, context.sin_TK)
        mixed = attend(q, k, v, context.blocked_BTT, self.dropout if self.training else 0.0)
        mixed_END = mixed.permute(0, 1, 3, 2, 4).reshape(experts, batch * length, d_model)
        return torch.bmm(mixed_END, self.out_EDD.transpose(1, 2).to(mixed_END.dtype))


class StackedFeedForward(nn.Module):
    """Feed-forward of E experts, each on its own tokens: (E, N, D) to (E, N, D)."""

    def __init__(self, num_experts: int, d_model: int, out_std: float, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.out_std = out_std
        self.w1_EFD = nn.Parameter(torch.empty(num_experts, 4 * d_model, d_model))
        self.w2_EDF = nn.Parameter(torch.empty(num_experts, d_model, 4 * d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal, std 0.02; output projection scaled with depth."""
        nn.init.normal_(self.w1_EFD, std=0.02)
        nn.init.normal_(self.w2_EDF, std=self.out_std)

    def forward(self, x_END: Tensor, w1_EFD: Tensor) -> Tensor:
        """`w1_EFD` is this module's weight, or that weight with a rotation folded in."""
        hidden_ENF = F.relu(torch.bmm(x_END, w1_EFD.transpose(1, 2))).square()
        hidden_ENF = F.dropout(hidden_ENF, self.dropout, self.training)
        return torch.bmm(hidden_ENF, self.w2_EDF.transpose(1, 2))
