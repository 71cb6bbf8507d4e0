"""Self-attention of all experts of a layer in a few matrix products.

Legend: E experts, B batch, T time (S of the keys, more than T with a cache), N = B x T tokens, D d_model, H heads,
K head width, O = 3 D rows of the input projection.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer

from moe_hub.models.fused import fused_attention
from moe_hub.models.pointwise import norm_and_rotate

EXPLICIT_ATTENTION_UP_TO = 512  # tokens
SAMPLE = 256  # tokens that are measured: enough for two digits
GOLDEN_RATIO = (1 + math.sqrt(5)) / 2  # its multiples modulo 1 are spread as evenly as any


@dataclass
class Context:
    """What every layer of one forward pass shares: positions, who may see whom, phases, the cache."""

    first_position: int
    length: int
    tokens: int
    documents_BS: Tensor | None = None
    cache: Cache | None = None
    phase_cos_BT1: Tensor | None = None
    phase_sin_BT1: Tensor | None = None
    sample_N: Tensor | None = None
    _biases: dict[torch.dtype, Tensor] = field(default_factory=dict)

    def blocked(self, device: torch.device) -> Tensor:
        """True where a query (row) must not see a key (column), (1 or B, T, S): later ones and other documents."""
        blocked = _later(self.length, self.first_position + self.length, device)
        if self.documents_BS is None:
            return blocked
        queries_BT = self.documents_BS[:, -self.length :]
        return blocked | (queries_BT[:, :, None] != self.documents_BS[:, None, :])

    def bias(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """0, or -inf where blocked, (1 or B, 1, T, S); made once a forward pass."""
        if dtype not in self._biases:
            blocked = self.blocked(device).unsqueeze(1)
            self._biases[dtype] = torch.zeros(blocked.shape, dtype=dtype, device=device).masked_fill_(
                blocked, float("-inf")
            )
        return self._biases[dtype]

    def sample(self, device: torch.device) -> Tensor:
        """Indices of at most `SAMPLE` of the N tokens that are not padding, evenly spread; chosen once a pass."""
        if self.sample_N is None:
            real_N = self.real()
            kept_N = torch.arange(self.tokens, device=device) if real_N is None else real_N.nonzero()[:, 0]
            self.sample_N = kept_N if len(kept_N) <= SAMPLE else kept_N[one_of_each_part(len(kept_N), device)]
        return self.sample_N

    def real(self) -> Tensor | None:
        """True for each of the N tokens that is not padding; None where none is."""
        return None if self.documents_BS is None else (self.documents_BS[:, -self.length :] > 0).flatten()

    def extend(self, key: Tensor, value: Tensor, slot: int) -> tuple[Tensor, Tensor]:
        """Keys and values (B, E x H, T, K) after those that the cache holds in a slot; they are added to it."""
        if self.cache is None:
            return key, value
        while len(self.cache.layers) <= slot:  # ghosts have slots of their own after those of the layers
            self.cache.layers.append(DynamicLayer())
        key, value = self.cache.update(key, value, slot)
        return key, value


@lru_cache(maxsize=64)
def one_of_each_part(count: int, device: torch.device) -> Tensor:
    """One index out of each of `SAMPLE` equal parts of `count`, at places that are spread over the parts.

    Equal distances would hit the same few positions of every row where they divide its length.
    """
    with torch.inference_mode(False):
        bounds = torch.arange(SAMPLE + 1) * count // SAMPLE
        place = (torch.arange(SAMPLE, dtype=torch.float64) * GOLDEN_RATIO) % 1
        return (bounds[:-1] + (place * bounds.diff()).long()).to(device)


@lru_cache(maxsize=64)
def _later(length: int, total: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.ones(length, total, dtype=torch.bool, device=device).triu(total - length + 1).unsqueeze(0)


@lru_cache(maxsize=64)
def rotary_angles(
    first: int, length: int, head_width: int, base: float, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """cos and sin (2, T, K) of position x base^(-2i/K), as `norm_and_rotate` takes them: both halves of the head width
    have the same angles, and the sine of the first half is negative. Those of the queries, the first part, carry the
    scale 1 / sqrt(K) of attention.
    """
    with torch.inference_mode(False):
        frequency = base ** (-torch.arange(0, head_width, 2, device="cpu", dtype=torch.float64) / head_width)
        angle = torch.arange(first, first + length, device="cpu", dtype=torch.float64)[:, None] * frequency
        scale = torch.tensor([1 / math.sqrt(head_width), 1.0], device="cpu", dtype=torch.float64)[:, None, None]
        cos, sin = angle.cos(), angle.sin()
        full = torch.cat((cos, cos), dim=-1) * scale, torch.cat((-sin, sin), dim=-1) * scale
        return full[0].to(device, dtype), full[1].to(device, dtype)


def compute_dtype(weight: Tensor) -> torch.dtype:
    """The dtype in which products with a weight are computed: autocast's where it is on."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def attend(q: Tensor, k: Tensor, v: Tensor, context: Context, dropout: float) -> Tensor:
    """Softmax attention of q (B, E x H, T, K), scaled already, over k and v (B, E x H, S, K).

    On a CPU in bf16 the fused kernel's backward is two to four times slower than two batched products and a softmax
    up to 512 tokens, and slower than itself in fp32 above; elsewhere the fused kernel is used.
    """
    if _explicit(q, k.shape[-2]):
        return _attend_explicitly(q, k, v, context.bias(q.dtype, q.device), dropout)
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        fused = _attend_fused(q.float(), k.float(), v.float(), context, dropout)
        return fused.to(q.dtype)
    return _attend_fused(q, k, v, context, dropout)


def _explicit(x: Tensor, length: int) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.bfloat16 and length <= EXPLICIT_ATTENTION_UP_TO


def _attend_fused(q: Tensor, k: Tensor, v: Tensor, context: Context, dropout: float) -> Tensor:
    plain = context.documents_BS is None and q.shape[-2] == k.shape[-2]
    allowed = None if plain else ~context.blocked(q.device).unsqueeze(1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout, is_causal=plain, scale=1.0)


def _attend_explicitly(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, dropout: float) -> Tensor:
    batch, heads, length, width = q.shape
    q, k, v = (part.reshape(batch * heads, -1, width) for part in (q, k, v))
    score = torch.bmm(q, k.transpose(1, 2)).view(batch, heads, length, -1) + bias
    with torch.autocast(q.device.type, enabled=False):  # it would compute the softmax in fp32
        weight = torch.softmax(score, dim=-1)
    if dropout:
        weight = F.dropout(weight, dropout)
    return torch.bmm(weight.view(batch * heads, length, -1), v).view(batch, heads, length, width)


def attention(
    x_BTD: Tensor, qkv_EOD: Tensor, out_EDD: Tensor, context: Context, slot: int, num_heads: int, rope_base: float,
    dropout: float = 0.0,
) -> Tensor:  # fmt: skip
    """Self-attention of E experts on the same tokens: (B, T, D) to (E, N, D).

    The input of the first projections is the same for all experts (rotations are folded into the weights), so they
    are one wide product; from there on the products are batched over the experts.
    """
    batch, length, d_model = x_BTD.shape
    experts, head_width = qkv_EOD.shape[0], d_model // num_heads
    dtype = compute_dtype(qkv_EOD)
    qkv = F.linear(x_BTD.to(dtype), qkv_EOD.to(dtype).flatten(0, 1))
    qkv = qkv.view(batch, length, experts, 3, num_heads, head_width)
    cos, sin = rotary_angles(context.first_position, length, head_width, rope_base, qkv.dtype, qkv.device)
    if _explicit(qkv, length) and context.cache is None and not dropout:
        mixed_END = fused_attention(qkv, cos, sin, context.bias(qkv.dtype, qkv.device))
        return torch.bmm(mixed_END, out_EDD.transpose(1, 2).to(mixed_END.dtype))
    q, k = norm_and_rotate(qkv[:, :, :, :2], cos, sin).flatten(2, 3).unbind(0)
    v = qkv[:, :, :, 2].permute(0, 2, 3, 1, 4).reshape(batch, experts * num_heads, length, head_width)
    k, v = context.extend(k, v, slot)
    mixed = attend(q, k, v, context, dropout).view(batch, experts, num_heads, length, head_width)
    mixed_END = mixed.permute(1, 0, 3, 2, 4).reshape(experts, batch * length, d_model)
    return torch.bmm(mixed_END, out_EDD.transpose(1, 2).to(mixed_END.dtype))


def init_inputs(weight_EOD: Tensor, *, orthonormal: bool) -> None:
    """Normal entries of std 0.02; or for each expert orthonormal columns, scaled to that size."""
    if not orthonormal:
        nn.init.normal_(weight_EOD, std=0.02)
        return
    for weight_OD in weight_EOD:
        nn.init.orthogonal_(weight_OD, gain=0.02 * max(weight_OD.shape) ** 0.5)


class StackedAttention(nn.Module):
    """The weights of E attentions: q, k and v in one (E, 3 D, D), output (E, D, D). No biases."""

    def __init__(self, num_experts: int, d_model: int, out_std: float, *, orthonormal: bool = False) -> None:
        super().__init__()
        self.out_std = out_std
        self.orthonormal = orthonormal
        self.qkv_EOD = nn.Parameter(torch.empty(num_experts, 3 * d_model, d_model))
        self.out_EDD = nn.Parameter(torch.empty(num_experts, d_model, d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Entries of size 0.02, output projection scaled with depth; input columns orthonormal where asked for."""
        init_inputs(self.qkv_EOD, orthonormal=self.orthonormal)
        nn.init.normal_(self.out_EDD, std=self.out_std)
