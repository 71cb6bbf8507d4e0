"""Measures at their edges: rounding, underflow, and a sample that stands for all tokens."""

from __future__ import annotations

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
