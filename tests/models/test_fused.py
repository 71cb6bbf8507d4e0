"""The hand-written derivatives against autograd's, and the fused steps against the plain formulas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from moe_hub.models import fused, pointwise
from moe_hub.models.attention import Context, attend, rotary_angles
from moe_hub.models.expert import feed_forward

CPU = torch.device("cpu")


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def test_norm() -> None:
    x = draw(3, 4, 8)
    assert gradcheck(pointwise.norm, x)
    torch.testing.assert_close(pointwise.norm(x), F.rms_norm(x, (8,), eps=1e-6), rtol=0, atol=1e-14)
    assert not pointwise.norm(torch.zeros(2, 4)).any()


def test_squared_relu() -> None:
    x = draw(3, 8)
    assert gradcheck(pointwise.squared_relu, x)
    assert torch.equal(pointwise.squared_relu(x), F.relu(x).square())


def test_norm_and_rotate() -> None:
    x = draw(2, 3, 2, 2, 2, 4)  # B T E P H K
    cos, sin = rotary_angles(5, 3, 4, 100.0, torch.float64, CPU)
    assert gradcheck(lambda x: pointwise.norm_and_rotate(x, cos, sin), x)
    turned = pointwise.norm_and_rotate(x, cos, sin)
    assert turned.shape == (2, 2, 2, 2, 3, 4)
    normed = F.rms_norm(x, (4,), eps=1e-6)
    for i in range(2):
        angle = torch.tensor([(5 + t) * 100.0 ** (-2 * i / 4) for t in range(3)], dtype=torch.float64)
        a, b = normed[..., i], normed[..., i + 2]
        for part, scale in ((0, 1 / math.sqrt(4)), (1, 1.0)):
            c, s = (f(angle)[None, :, None, None] * scale for f in (torch.cos, torch.sin))
            expected = a[:, :, :, part] * c - b[:, :, :, part] * s
            torch.testing.assert_close(turned[part, ..., i].permute(0, 3, 1, 2), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("with_residual", [True, False])
def test_feed_forward(with_residual: bool) -> None:
    x, w1, w2 = draw(2, 5, 4), draw(2, 6, 4, seed=1), draw(2, 4, 6, seed=2)
    residual = draw(2, 5, 4, seed=3) if with_residual else None
    assert gradcheck(fused.fused_feed_forward, (x, w1, w2, residual))
    plain = F.relu(x @ w1.transpose(1, 2)).square() @ w2.transpose(1, 2) + (0 if residual is None else residual)
    torch.testing.assert_close(fused.fused_feed_forward(x, w1, w2, residual), plain, rtol=0, atol=1e-13)


def test_feed_forward_of_experts_that_read_the_same_tokens() -> None:
    x, w1, w2 = draw(5, 4), draw(2, 6, 4, seed=1), draw(2, 4, 6, seed=2)
    assert gradcheck(lambda x, w1, w2: fused.fused_feed_forward(x.expand(2, -1, -1), w1, w2, None), (x, w1, w2))


def test_feed_forward_of_frozen_experts() -> None:
    x, w1, w2 = draw(2, 5, 4), draw(2, 6, 4, seed=1).detach(), draw(2, 4, 6, seed=2).detach()
    assert gradcheck(lambda x: fused.fused_feed_forward(x, w1, w2, None), x)


def test_dropout_takes_the_plain_way_with_the_same_mean() -> None:
    x, w1, w2 = draw(1, 4, 4), draw(1, 64, 4, seed=1), draw(1, 4, 64, seed=2)
    torch.manual_seed(0)
    mean = torch.stack([feed_forward(x, w1, w2, 0.5) for _ in range(2000)]).mean(0)
    exact = feed_forward(x, w1, w2, 0.0)
    assert (mean - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize(("block", "scores"), [(64, 2**22), (3, 64)])
def test_attention(block: int, scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, and in blocks of queries of which the last is shorter and groups of one expert."""
    monkeypatch.setattr(fused, "QUERY_BLOCK", block)
    monkeypatch.setattr(fused, "GROUP_SCORES", scores)
    qkv = draw(2, 4, 2, 3, 2, 4)  # B T E X H K
    cos, sin = rotary_angles(0, 4, 4, 100.0, torch.float64, CPU)
    context = Context(0, 4, 8, torch.tensor([[1, 1, 2, 2], [1, 1, 1, 1]]))
    bias = context.bias(torch.float64, CPU)
    assert gradcheck(lambda qkv: fused.fused_attention(qkv, cos, sin, bias), qkv)
    q, k = pointwise.norm_and_rotate(qkv[:, :, :, :2], cos, sin).flatten(2, 3).unbind(0)
    v = qkv[:, :, :, 2].permute(0, 2, 3, 1, 4).reshape(2, 4, 4, 4)
    plain = attend(q, k, v, context, 0.0).view(2, 2, 2, 4, 4).permute(1, 0, 3, 2, 4).reshape(2, 8, 8)
    torch.testing.assert_close(fused.fused_attention(qkv, cos, sin, bias), plain, rtol=0, atol=1e-14)


def test_sums_and_projection() -> None:
    x, u, share = draw(5, 4), draw(3, 5, 4, seed=1), draw(5, 3, seed=2)
    assert gradcheck(fused.normed_sum, (x, u))
    torch.testing.assert_close(fused.normed_sum(x, u), pointwise.norm(x + u), rtol=0, atol=1e-14)
    weight = draw(4, 3, seed=3)
    assert gradcheck(fused.normed_projection, (u, weight))
    torch.testing.assert_close(fused.normed_projection(u, weight), pointwise.norm(u) @ weight, rtol=0, atol=1e-14)
    assert gradcheck(fused.weighted_sum, (u, share))
    plain = (u * share.T.unsqueeze(-1)).sum(0)
    torch.testing.assert_close(fused.weighted_sum(u, share), plain, rtol=0, atol=1e-14)
    mean = torch.full((1, 3), 1 / 3, dtype=torch.float64)
    torch.testing.assert_close(fused.weighted_sum(u, mean), u.mean(0), rtol=0, atol=1e-14)


def test_bf16_attention_is_near_that_in_fp32() -> None:
    """Each way that a CPU takes: fused up to 512 tokens, torch's kernel in fp32 above."""
    for length in (40, 520):
        q, k, v = (draw(1, 2, length, 8, seed=s).detach().float() for s in range(3))
        context = Context(0, length, length)
        exact = attend(q / 3, k, v, context, 0.0)
        rounded = attend(*(part.bfloat16() for part in (q / 3, k, v)), Context(0, length, length), 0.0)
        assert rounded.dtype == torch.bfloat16
        assert (rounded.float() - exact).abs().max() < 0.05
