"""Measures at their edges: rounding, underflow, and a sample that stands for all tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from moe_hub.models import measures
from moe_hub.models.attention import SAMPLE, Context


def test_a_share_that_underflows_leaves_a_finite_gradient() -> None:
    logits_NE = torch.tensor([[0.0, -200.0], [-1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    measures.specialization(torch.softmax(logits_NE, -1)).backward()
    assert logits_NE.grad is not None
    assert torch.isfinite(logits_NE.grad).all()


def test_specialization_at_its_ends() -> None:
    assert measures.specialization(torch.full((6, 3), 1 / 3)) == pytest.approx(0, abs=1e-6)
    assert measures.specialization(torch.eye(3).repeat(4, 1)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("batch", "length"), [(32, 128), (128, 128), (7, 64), (5, 100), (2, 130)])
def test_a_sample_has_every_row_and_every_place(batch: int, length: int) -> None:
    index_N = Context(0, length, batch * length).sample(torch.device("cpu"))
    assert len(index_N) == min(SAMPLE, batch * length)
    assert index_N.unique().numel() == len(index_N)
    rows, places = index_N // length, index_N % length
    assert rows.unique().numel() == batch
    quarters = torch.bincount(places * 4 // length, minlength=4) / len(index_N)
    assert quarters.tolist() == pytest.approx([0.25] * 4, abs=0.06)
    assert (places == 0).float().mean() <= 3 / length


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def hsic(first: np.ndarray, second: np.ndarray) -> float:
    """Without bias: Song et al. 2012, eq. 5, from Gram matrices (N, N)."""
    count, one = len(first), np.ones(len(first))
    first, second = first - np.diag(np.diag(first)), second - np.diag(np.diag(second))
    sums = np.trace(first @ second) + one @ first @ one * (one @ second @ one) / ((count - 1) * (count - 2))
    return float((sums - 2 / (count - 2) * (one @ first @ second @ one)) / (count * (count - 3)))


def cka_by_pairs(delta_END: torch.Tensor) -> np.ndarray:
    """From the formulas of the papers, pair by pair."""
    grams = [rows @ rows.T for rows in delta_END.numpy()]
    own = [hsic(gram, gram) for gram in grams]
    return np.array([[hsic(a, b) / math.sqrt(own[i] * own[j]) for j, b in enumerate(grams)]
                     for i, a in enumerate(grams)])  # fmt: skip


@pytest.mark.parametrize("shape", [(2, 4, 3), (3, 30, 8), (5, 17, 40)])
def test_cka_is_that_of_the_papers(shape: tuple[int, int, int]) -> None:
    delta = draws(*shape) + 3 * draws(shape[0], 1, shape[2], seed=1)
    delta[1] += delta[0]  # something in common, so that not all is near 0
    np.testing.assert_allclose(measures.linear_cka(delta).numpy(), cka_by_pairs(delta), rtol=0, atol=1e-10)


def test_cka_of_many_tokens_is_kornblith_s_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F) of centred columns, whose bias goes with D / N."""
    monkeypatch.setattr(measures, "CKA_TOKENS", 4000)
    delta = draws(2, 4000, 4)
    delta[1] = 0.5 * delta[1] + delta[0] @ draws(4, 4, seed=2)
    x, y = (rows - rows.mean(0) for rows in delta.numpy())
    plain = (np.linalg.norm(y.T @ x) ** 2) / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    assert 0.3 < plain < 0.95
    assert measures.linear_cka(delta)[0, 1].item() == pytest.approx(plain, abs=3e-3)


def test_cka_takes_every_second_token_of_a_full_sample() -> None:
    delta = draws(3, SAMPLE, 8)
    torch.testing.assert_close(measures.linear_cka(delta), measures.linear_cka(delta[:, ::2]), rtol=0, atol=0)
    assert SAMPLE // measures.CKA_TOKENS == 2
    other = delta.clone()
    other[:, 1::2] = 0.0
    torch.testing.assert_close(measures.linear_cka(other), measures.linear_cka(delta), rtol=0, atol=0)


def test_cka_of_independent_outputs_is_zero_where_the_plain_estimate_is_not() -> None:
    """Within 3 standard errors at 64 tokens of width 32, where the biased one is D / (N + D) = 1/3."""
    found, biased = [], []
    for seed in range(100):
        delta = draws(2, 64, 32, seed=seed)
        found.append(measures.linear_cka(delta)[0, 1].item())
        x, y = (rows - rows.mean(0) for rows in delta.numpy())
        biased.append(np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))
    assert abs(np.mean(found)) < 3 * np.std(found) / 10
    assert np.mean(biased) == pytest.approx(1 / 3, abs=0.02)


def test_cka_is_blind_to_turns_scales_and_shifts_and_not_to_more() -> None:
    delta = draws(3, 20, 6)
    turn = torch.linalg.qr(draws(6, 6, seed=1)).Q
    other = delta.clone()
    other[1] = -40 * delta[1] @ turn + draws(6, seed=3)
    torch.testing.assert_close(measures.linear_cka(other), measures.linear_cka(delta), rtol=0, atol=1e-12)
    pair = measures.linear_cka(torch.stack((delta[0], 1e-9 * delta[0] @ turn)))
    torch.testing.assert_close(pair, torch.ones(2, 2, dtype=torch.float64), rtol=0, atol=1e-12)
    other[1] = delta[1] @ torch.diag(torch.tensor([9.0, 1, 1, 1, 1, 1]).double())  # no turn
    assert not torch.allclose(measures.linear_cka(other), measures.linear_cka(delta), atol=1e-2)


def test_cka_at_its_edges() -> None:
    delta = draws(3, 20, 6).float()
    exact = measures.linear_cka(delta.double())
    torch.testing.assert_close(measures.linear_cka(delta).double(), exact, rtol=0, atol=1e-5)
    torch.testing.assert_close(measures.linear_cka(delta + 100).double(), exact, rtol=0, atol=1e-3)
    delta[2] = 5.0  # says the same of every token
    silent = measures.linear_cka(delta)
    assert silent[2].tolist() == silent[:, 2].tolist() == [0.0, 0.0, 0.0]
    assert silent[0, 1] == pytest.approx(exact[0, 1].item(), abs=1e-5)
    assert measures.linear_cka(delta[:, :3]).isnan().all()
    assert not measures.linear_cka(delta.requires_grad_()).requires_grad


def test_padding_is_not_sampled() -> None:
    documents_BT = torch.tensor([[1, 1, 2, 0], [1, 0, 0, 0]])
    assert Context(0, 4, 8, documents_BT).sample(torch.device("cpu")).tolist() == [0, 1, 2, 4]


def test_overlaps_in_training_are_not_rounded_to_bf16() -> None:
    from moe_hub.config import load_config
    from moe_hub.models import build_model

    overrides = ["model.architecture=orthogonal", "train.mode=standard", "model.d_model=64", "model.num_experts=4"]
    model = build_model(load_config(overrides=overrides)).train()
    ids_BT = torch.randint(64, (4, 32), generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(input_ids=ids_BT, labels=ids_BT)
    found = [float(layer.statistics[0]) for layer in model.stack]
    assert all(layer.statistics[0].dtype == torch.float32 for layer in model.stack)
    assert any(float(torch.tensor(value).bfloat16()) != value for value in found)
