"""Norm, rotary positions and squared ReLU with hand-written derivatives.

Autograd's own versions of these chains keep and pass over several copies of the data (in bf16 some of them in fp32);
these save one tensor each and need half the passes, a sixth of a training step on a CPU. The formulas are the same:
tests compare values and gradients with torch's own operations in float64.

Legend: B batch, T time, E experts, H heads, K head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

EPS = 1e-6


def norm(x: Tensor) -> Tensor:
    """RMS norm over the last axis, without a gain (Zhang and Sennrich 2019): x / sqrt(mean x^2 + 1e-6).

    Without a gain, norm(R x) = R norm(x) for every rotation R.
    """
    result: Tensor = _RmsNorm.apply(x)  # type: ignore[no-untyped-call]
    return result


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0)^2 (So et al. 2021)."""
    result: Tensor = _SquaredRelu.apply(x)  # type: ignore[no-untyped-call]
    return result


def norm_and_rotate(x_BTEPHK: Tensor, cos_PTK: Tensor, sin_PTK: Tensor) -> Tensor:
    """Normalised queries and keys (P = 2 parts), turned by position: (B, T, E, P, H, K) to (P, B, E, H, T, K).

    cos and sin are (2, T, K), see `attention.rotary_angles`; the two halves of the head width are turned against each
    other (RoPE, Su et al. 2021).
    Norm of queries and keys: Henry et al. 2020.
    """
    x_PBEHTK = x_BTEPHK.permute(3, 0, 2, 4, 1, 5)
    result: Tensor = _NormRotate.apply(x_PBEHTK, cos_PTK, sin_PTK)  # type: ignore[no-untyped-call]
    return result


def inverse_rms(x: Tensor) -> Tensor:
    """1 / sqrt(mean x^2 + eps) over the last axis, in the dtype of x, summed in fp32 or better."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    if x.dtype in (torch.bfloat16, torch.float16):
        length = length.float()
    inverse: Tensor = length.square().div(x.shape[-1]).add(EPS).rsqrt()
    return inverse.to(x.dtype)


def norm_backward(grad: Tensor, y: Tensor, inverse: Tensor, out: Tensor | None = None) -> Tensor:
    """Gradient of the norm: (g - y mean(g y)) / rms; into `out` where given."""
    mean = (grad * y).mean(-1, keepdim=True)
    return torch.addcmul(grad, y, mean, value=-1, out=out).mul_(inverse)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        inverse = inverse_rms(x)
        y = x * inverse
        ctx.save_for_backward(y, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return norm_backward(grad, *ctx.saved_tensors)


class _SquaredRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = torch.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        half: Tensor = grad * positive
        return half.add_(half)


class _NormRotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_PBEHTK: Tensor, cos_PTK: Tensor, sin_PTK: Tensor) -> Tensor:
        inverse = inverse_rms(x_PBEHTK)
        y = torch.empty(x_PBEHTK.shape, dtype=x_PBEHTK.dtype, device=x_PBEHTK.device)
        torch.mul(x_PBEHTK, inverse, out=y)
        cos, sin = (part[:, None, None, None] for part in (cos_PTK, sin_PTK))
        ctx.save_for_backward(y, inverse, cos, sin)
        return turn(y, cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        y, inverse, cos, sin = ctx.saved_tensors
        return norm_backward(turn(grad, cos, -sin), y, inverse), None, None


def turn(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor | None = None) -> Tensor:
    """Turns the first half of the last axis against the second, into `out` where given.

    `sin` is negative in its first half.
    """
    return torch.mul(x, cos, out=out).addcmul_(torch.roll(x, x.shape[-1] // 2, -1), sin)
