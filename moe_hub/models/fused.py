"""Feed-forward and attention of stacked experts as single steps of autograd, for training on a CPU.

Both go through the experts one at a time: what an expert's products leave in the cache is normalised, masked or
squared before it falls out of it, which is worth a fifth of a training step. Derivatives are written by hand; tests
compare them with autograd's on the plain formulas in float64.

Legend: E experts, N tokens (B x T), D d_model, F feed-forward width, B batch, T time, H heads, K head width,
P = 2 (queries, keys).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from moe_hub.models.pointwise import inverse_rms, norm_backward, turn


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
            inner_NF = torch.mm(grad_ND, w2_EDF[e]).mul_(hidden_NF).mul_(2)
            if grad_w1 is not None:
                torch.mm(inner_NF.T, x_END[e], out=grad_w1[e])
            if grad_x is not None:
                torch.mm(inner_NF, w1_EFD[e], out=grad_x[e])
        return grad_x, grad_w1, grad_w2, grad_END if for_residual else None


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv_BTEXHK: Tensor, cos_PTK: Tensor, sin_PTK: Tensor, bias_B1TT: Tensor) -> Tensor:
        batch, length, experts, _, heads, width = qkv_BTEXHK.shape
        cos, sin = (part[:, None, None] for part in (cos_PTK, sin_PTK))
        normed = qkv_BTEXHK.new_empty(experts, 2, batch, heads, length, width)
        inverse = qkv_BTEXHK.new_empty(experts, 2, batch, heads, length, 1)
        value = qkv_BTEXHK.new_empty(experts, batch * heads, length, width)
        weight = qkv_BTEXHK.new_empty(experts, batch * heads, length, length)
        out = qkv_BTEXHK.new_empty(experts, batch, length, heads, width)
        with torch.autocast(qkv_BTEXHK.device.type, enabled=False):
            for e in range(experts):
                part_XBHTK = qkv_BTEXHK[:, :, e].permute(2, 0, 3, 1, 4)
                inverse[e] = inverse_rms(part_XBHTK[:2])
                torch.mul(part_XBHTK[:2], inverse[e], out=normed[e])
                value[e].view(batch, heads, length, width).copy_(part_XBHTK[2])
                q, k = turn(normed[e], cos, sin).flatten(1, 2)
                score = torch.bmm(q, k.transpose(1, 2))
                score.view(batch, heads, length, length).add_(bias_B1TT)
                torch.softmax(score, dim=-1, out=weight[e])
                said = torch.bmm(weight[e], value[e]).view(batch, heads, length, width)
                out[e] = said.transpose(1, 2)
        ctx.save_for_backward(normed, inverse, value, weight, cos, sin)
        return out.view(experts, batch * length, heads * width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_END: Tensor) -> tuple[Tensor, None, None, None]:
        normed, inverse, value, weight, cos, sin = ctx.saved_tensors
        experts, _, batch, heads, length, width = normed.shape
        grad_out = grad_END.reshape(experts, batch, length, heads, width)
        grad_qkv = grad_END.new_empty(batch, length, experts, 3, heads, width)
        for e in range(experts):
            q, k = turn(normed[e], cos, sin).flatten(1, 2)
            grad = grad_out[e].transpose(1, 2).reshape(batch * heads, length, width)
            grad_score = torch.ops.aten._softmax_backward_data(
                torch.bmm(grad, value[e].transpose(1, 2)), weight[e], -1, weight.dtype
            )
            grad_qk = torch.stack((torch.bmm(grad_score, k), torch.bmm(grad_score.transpose(1, 2), q)))
            grad_qk = turn(grad_qk.view(2, batch, heads, length, width), cos, -sin)
            target = grad_qkv[:, :, e].permute(2, 0, 3, 1, 4)
            target[:2] = norm_backward(grad_qk, normed[e], inverse[e])
            target[2] = torch.bmm(weight[e].transpose(1, 2), grad).view(batch, heads, length, width)
        return grad_qkv, None, None, None


def normed_sum(x_ND: Tensor, u_END: Tensor) -> Tensor:
    """norm(x + u_e) for each expert, (E, N, D), in the dtype of u."""
    result: Tensor = _NormedSum.apply(x_ND, u_END)  # type: ignore[no-untyped-call]
    return result


def weighted_sum(said_END: Tensor, share_NE: Tensor) -> Tensor:
    """sum_e share_e said_e, (N, D), summed in at least fp32; shares (N or 1, E)."""
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
            grad_u[e] = norm_backward(grad_END[e].clone(), y_END[e], inverse_EN1[e])
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
