"""The counted work is the work that torch counts in a plain forward and backward pass."""

from __future__ import annotations

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.flops import flops_per_step
from benchmarks.naive import NaiveModel, NaiveShape
from benchmarks.plain_step import next_token_loss
from benchmarks.training_step import Shape

SHAPE = Shape(d_model=32, layers=2, heads=2, experts=4, batch=2, length=16, vocab=40)


@pytest.mark.parametrize("experts", [4, 2])
def test_hgnn_work_is_that_of_the_naive_model(experts: int) -> None:
    """The naive model passes messages without a product, so the mixing matrix (under 1 %) is what may differ."""
    settings = SHAPE.config("hgnn", {"model.num_experts": experts}).model
    naive = NaiveModel(NaiveShape.of(settings, SHAPE.vocab))
    ids_BT = next(SHAPE.batches()).input_ids_BT
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # the fused kernel is not counted
        next_token_loss(naive(ids_BT), ids_BT).backward()
    counted = flops_per_step(settings, SHAPE.batch, SHAPE.length, SHAPE.vocab)
    # The head of the last position is not used by the loss but computed all the same.
    assert counter.get_total_flops() == pytest.approx(counted, rel=0.01)
