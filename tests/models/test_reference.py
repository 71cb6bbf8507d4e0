"""The fast models against the plain ones of naive.py, in float64."""

from __future__ import annotations

import pytest
import torch
from naive import naive_logits
from variants import make_batch, make_model, stir

SAME = [
    "dense", "dense-ffn", "gnn", "gnn-ffn-mean", "gnn-fixed", "hgnn", "hgnn-ffn", "hgnn-mean", "hgnn-triplets",
    "hgnn-all", "hgnn-orders", "hgnn-fixed", "hgnn-one", "orthogonal", "ghost", "ghost-ffn-mean", "geometric",
    "geometric-ffn-mean",
    "butterfly", "householder", "cayley", "cayley-full", "geometric-shared",
]  # fmt: skip


@pytest.mark.parametrize("variant", SAME)
def test_logits_equal_the_loop_over_experts(variant: str) -> None:
    model = stir(make_model(variant), 0.2).double().eval()
    ids = make_batch(2, 6).input_ids_BT
    fast, plain = model(input_ids=ids).logits, naive_logits(model, ids)
    assert fast.dtype == torch.float64
    torch.testing.assert_close(fast, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", ["gnn", "hgnn", "geometric", "butterfly", "cayley"])
def test_gradients_equal_those_of_the_loop(variant: str) -> None:
    model = stir(make_model(variant), 0.2).double()
    ids = make_batch(1, 5).input_ids_BT
    parameters = [p for p in model.parameters() if p.requires_grad]
    weight = torch.randn(1, 5, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    fast = torch.autograd.grad((model(input_ids=ids).logits * weight).sum(), parameters)
    plain = torch.autograd.grad((naive_logits(model, ids) * weight).sum(), parameters)
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
