"""Feed-forward, attention and sums of stacked experts as single steps of autograd, for training on a CPU.

They go through the experts in turn, attention in groups of a few: what their products leave in the cache is
normalised, masked or squared before it falls out of it. Derivatives are written by hand; tests compare them with
autograd's on the plain formulas in float64.

Legend: E experts, N tokens (B x T), D d_model, F feed-forward width, B batch, T time, H heads, K head width,
P = 2 (queries, keys).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from moe_hub.models.pointwise import inverse_rms, norm, norm_backward, turn

QUERY_BLOCK = 64  # tokens; halves of a row of 128, so that a quarter of its products is not computed
GROUP_SCORES = 2**22  # attention scores that are computed together: 8 MB in bf16


def fused_feed_forward(x_END: Tensor, w1_EFD: Tensor, w2_EDF: Tensor, residual_END: Tensor | None) -> Tensor:
    """residual + max(x W1^T, 0)^2 W2^T for each expert, (E, N, D); all in one dtype."""
    result: Tensor = _FeedForward.apply(x_END, w1_EFD, w2_EDF, residual_END)  # type: ignore[no-untyped-call]
    return result


def fused_attention(qkv_BTEXHK: Tensor, cos_PTK: Tensor, sin_PTK: Tensor, bias_B1TT: Tensor) -> Tensor:
    """Softmax attention from projected queries, keys and values (B, T, E, 3, H, K) to (E, N, D).

    Queries and keys are normalised and turned by position (see `pointwise.norm_and_rotate`); the bias is added to
    their products.
    """
    result: Tensor = _Attention.apply(qkv_BTEXHK, cos_PTK, sin_PTK, bias_B1TT)  # type: ignore[no-untyped-call]
    return result


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_END: Tensor, w1_EFD: Tensor, w2_EDF: Tensor, residual_END: Tensor | None) -> Tensor:
        experts, tokens = w1_EFD.shape[0], x_END.shape[1]
        positive_ENF = x_END.new_empty(experts, tokens, w1_EFD.shape[1])
        out_END = x_END.new_empty(experts, tokens, w2_EDF.shape[1])
        for e in range(experts):
            hidden_NF = torch.mm(x_END[e], w1_EFD[e].T, out=positive_ENF[e]).relu_()
            squared_NF = hidden_NF * hidden_NF
            if residual_END is None:
                torch.mm(squared_NF, w2_EDF[e].T, out=out_END[e])
            else:
                torch.addmm(residual_END[e], squared_NF, w2_EDF[e].T, out=out_END[e])
        ctx.save_for_backward(x_END, w1_EFD, w2_EDF, positive_ENF)
        return out_END

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_END: Tensor) -> tuple[Tensor | None, ...]:
        x_END, w1_EFD, w2_EDF, positive_ENF = ctx.saved_tensors
        for_x, for_w1, for_w2, for_residual = ctx.needs_input_grad
        grad_x = torch.empty_like(x_END, memory_format=torch.contiguous_format) if for_x else None
        grad_w1 = torch.empty_like(w1_EFD) if for_w1 else None
        grad_w2 = torch.empty_like(w2_EDF) if for_w2 else None
        for e in range(len(w1_EFD)):
            grad_ND, hidden_NF = grad_END[e], positive_ENF[e]
            if grad_w2 is not None:
                torch.mm(grad_ND.T, hidden_NF * hidden_NF, out=grad_w2[e])
            inner_NF = torch.mm(2 * grad_ND, w2_EDF[e]).mul_(hidden_NF)
            if grad_w1 is not None:
                torch.mm(inner_NF.T, x_END[e], out=grad_w1[e])
            if grad_x is not None:
                torch.mm(inner_NF, w1_EFD[e], out=grad_x[e])
        return grad_x, grad_w1, grad_w2, grad_END if for_residual else None


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv_BTEXHK: Tensor, cos_PTK: Tensor, sin_PTK: Tensor, bias_B1TT: Tensor) -> Tensor:
        batch, length, experts, _, heads, width = qkv_BTEXHK.shape
        cos, sin = (part[:, None, None, None] for part in (cos_PTK, sin_PTK))
        turned = qkv_BTEXHK.new_empty(2, experts, batch, heads, length, width)
        inverse = qkv_BTEXHK.new_empty(2, experts, batch, heads, length, 1)
        value = qkv_BTEXHK.new_empty(experts, batch, heads, length, width)
        out = qkv_BTEXHK.new_empty(experts, batch, length, heads, width)
        weights: list[Tensor] = []
        with torch.autocast(qkv_BTEXHK.device.type, enabled=False):  # it would compute the softmax in fp32
            for group in expert_groups(experts, batch * heads * length * length):
                part_XEBHTK = qkv_BTEXHK[:, :, group].permute(3, 2, 0, 4, 1, 5)
                inverse[:, group] = inverse_rms(part_XEBHTK[:2])
                turn(part_XEBHTK[:2], cos, sin, out=turned[:, group]).mul_(inverse[:, group])
                value[group] = part_XEBHTK[2]
                (q, k), v = turned[:, group].flatten(1, 3), value[group].flatten(0, 2)
                for begin, end in query_blocks(length):
                    score = torch.bmm(q[:, begin:end], k[:, :end].transpose(1, 2))
                    score.view(-1, batch, heads, end - begin, end).add_(bias_B1TT[:, :, begin:end, :end])
                    weights.append(torch.softmax(score, dim=-1))
                    said = torch.bmm(weights[-1], v[:, :end]).view(-1, batch, heads, end - begin, width)
                    out[group, :, begin:end] = said.transpose(2, 3)
        ctx.save_for_backward(turned, inverse, value, cos, sin, *weights)
        return out.view(experts, batch * length, heads * width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_END: Tensor) -> tuple[Tensor, None, None, None]:
        turned, inverse, value, cos, sin = ctx.saved_tensors[:5]
        _, experts, batch, heads, length, width = turned.shape
        grad_out = grad_END.reshape(experts, batch, length, heads, width)
        grad_qkv = grad_END.new_empty(batch, length, experts, 3, heads, width)
        blocks, weights = query_blocks(length), list(ctx.saved_tensors[5:])
        for group in expert_groups(experts, batch * heads * length * length):
            own = list(zip(blocks, weights[: len(blocks)], strict=True))
            del weights[: len(blocks)]
            (q, k), v = turned[:, group].flatten(1, 3), value[group].flatten(0, 2)
            grad = grad_out[group].transpose(2, 3).reshape(-1, length, width)
            grad_qk, grad_v = _attention_backward(q, k, v, grad, own)
            target = grad_qkv[:, :, group].permute(3, 2, 0, 4, 1, 5)
            grad_qk = grad_qk.view(2, -1, batch, heads, length, width)
            torch.mul(_unturned(grad_qk, turned[:, group], cos, sin), inverse[:, group], out=target[:2])
            target[2] = grad_v.view(-1, batch, heads, length, width)
        return grad_qkv, None, None, None


def expert_groups(experts: int, scores: int) -> list[slice]:
    """Experts that are computed together, given the number of attention scores of one: few calls, and in the cache."""
    size = max(1, min(experts, GROUP_SCORES // scores))
    return [slice(begin, min(begin + size, experts)) for begin in range(0, experts, size)]


def query_blocks(length: int) -> list[tuple[int, int]]:
    """Begin and end of each block of queries; a block's keys end where it does, as no token sees a later one."""
    return [(begin, min(begin + QUERY_BLOCK, length)) for begin in range(0, length, QUERY_BLOCK)]


def _attention_backward(
    q: Tensor, k: Tensor, v: Tensor, grad: Tensor, own: list[tuple[tuple[int, int], Tensor]]
) -> tuple[Tensor, Tensor]:
    """Gradients of queries and keys, (2, E x B x H, T, K), and of values, of a group of experts."""
    grad_qk = q.new_empty(2, *q.shape)
    grad_v = torch.empty_like(v)
    for (begin, end), weight in reversed(own):  # the last block has all keys, so it comes first and begins the sums
        part = grad[:, begin:end]
        score = torch.ops.aten._softmax_backward_data(
            torch.bmm(part, v[:, :end].transpose(1, 2)), weight, -1, weight.dtype
        )
        grad_qk[0, :, begin:end] = torch.bmm(score, k[:, :end])
        for_k, for_v = torch.bmm(score.transpose(1, 2), q[:, begin:end]), torch.bmm(weight.transpose(1, 2), part)
        if end == grad.shape[1]:
            grad_qk[1], grad_v = for_k, for_v
        else:
            grad_qk[1, :, :end] += for_k
            grad_v[:, :end] += for_v
    return grad_qk, grad_v


def _unturned(grad: Tensor, turned: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Gradient of the normalised queries and keys, less its part along them, from that of the turned ones.

    With y normalised, turned = s R y (s = 1 / sqrt(K) for queries, 1 for keys), the norm's derivative needs
    g_y - y mean(g_y y) with g_y = s R^T g: that is s R^T (g - turned mean(g turned) / s^2). `grad` is overwritten.
    """
    mean = (grad * turned).mean(-1, keepdim=True)
    mean[0] *= grad.shape[-1]
    return turn(grad.addcmul_(turned, mean, value=-1), cos, -sin)


def normed_sum(x_ND: Tensor, u_END: Tensor) -> Tensor:
    """norm(x + u_e) for each expert, (E, N, D), in the dtype of u."""
    if u_END.device.type != "cpu":
        return norm(x_ND.to(u_END.dtype) + u_END)
    result: Tensor = _NormedSum.apply(x_ND, u_END)  # type: ignore[no-untyped-call]
    return result


def weighted_sum(said_END: Tensor, share_NE: Tensor) -> Tensor:
    """sum_e share_e said_e, (N, D), summed in at least fp32; shares (N or 1, E)."""
    if said_END.device.type != "cpu":
        return (said_END * share_NE.T.unsqueeze(-1)).sum(0)
    result: Tensor = _WeightedSum.apply(said_END, share_NE)  # type: ignore[no-untyped-call]
    return result


class _NormedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, u_END: Tensor) -> Tensor:
        x = x_ND.to(u_END.dtype)
        y_END = torch.empty_like(u_END, memory_format=torch.contiguous_format)
        inverse_EN1 = u_END.new_empty(*u_END.shape[:2], 1)
        for e in range(len(u_END)):
            total_ND = x + u_END[e]
            inverse_EN1[e] = inverse_rms(total_ND)
            torch.mul(total_ND, inverse_EN1[e], out=y_END[e])
        ctx.save_for_backward(y_END, inverse_EN1)
        ctx.dtype = x_ND.dtype
        return y_END

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_END: Tensor) -> tuple[Tensor, Tensor]:
        y_END, inverse_EN1 = ctx.saved_tensors
        grad_u = torch.empty_like(y_END)
        grad_x = torch.zeros_like(y_END[0], dtype=torch.promote_types(ctx.dtype, torch.float32))
        for e in range(len(y_END)):
            norm_backward(grad_END[e], y_END[e], inverse_EN1[e], out=grad_u[e])
            grad_x += grad_u[e]
        return grad_x.to(ctx.dtype), grad_u


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, said_END: Tensor, share_NE: Tensor) -> Tensor:
        ctx.save_for_backward(said_END, share_NE)
        total_ND = said_END[0] * share_NE[:, :1]
        for e in range(1, len(said_END)):
            total_ND = total_ND.addcmul_(said_END[e].to(total_ND.dtype), share_NE[:, e : e + 1])
        return total_ND

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor | None, Tensor | None]:
        said_END, share_NE = ctx.saved_tensors
        for_said, for_share = ctx.needs_input_grad
        grad_said = torch.empty_like(said_END) if for_said else None
        grad_share = torch.empty_like(share_NE) if for_share else None
        for e in range(len(said_END)):
            if grad_said is not None:
                grad_said[e] = grad_ND * share_NE[:, e : e + 1]
            if grad_share is not None:
                grad_share[:, e] = (said_END[e] * grad_ND).sum(-1)
        return grad_said, grad_share


def normed_projection(x_END: Tensor, weight_DR: Tensor) -> Tensor:
    """norm(x) W, (E, N, R); on a CPU as (x W) / rms(x), so that the normalised x is never written."""
    if x_END.device.type != "cpu":
        return norm(x_END) @ weight_DR
    result: Tensor = _NormedProjection.apply(x_END, weight_DR)  # type: ignore[no-untyped-call]
    return result


class _NormedProjection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_END: Tensor, weight_DR: Tensor) -> Tensor:
        inverse_EN1 = x_END.new_empty(*x_END.shape[:2], 1)
        out_ENR = x_END.new_empty(*x_END.shape[:2], weight_DR.shape[1])
        for e in range(len(x_END)):
            inverse_EN1[e] = inverse_rms(x_END[e])
            torch.mm(x_END[e], weight_DR, out=out_ENR[e]).mul_(inverse_EN1[e])
        ctx.save_for_backward(x_END, weight_DR, inverse_EN1, out_ENR)
        return out_ENR

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ENR: Tensor) -> tuple[Tensor, Tensor]:
        x_END, weight_DR, inverse_EN1, out_ENR = ctx.saved_tensors
        grad_x = torch.empty_like(x_END, memory_format=torch.contiguous_format)
        grad_w = torch.zeros_like(weight_DR, dtype=torch.promote_types(weight_DR.dtype, torch.float32))
        for e in range(len(x_END)):
            scaled_NR = grad_ENR[e] * inverse_EN1[e]
            grad_w += x_END[e].T @ scaled_NR
            along_N1 = (scaled_NR * out_ENR[e]).sum(-1, keepdim=True) * inverse_EN1[e] / x_END.shape[-1]
            torch.mm(scaled_NR, weight_DR.T, out=grad_x[e]).addcmul_(x_END[e], along_N1, value=-1)
        return grad_x, grad_w.to(weight_DR.dtype)
