"""The sparse router against transformers' Mixtral block and by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock, load_balancing_loss_func
from variants import make_batch, make_config, make_model, stir

from moe_hub.errors import ConfigError
from moe_hub.models.topk import PAD_ROWS, Routes, SparseExperts, _places, grouped, load_balance, route
from moe_hub.train.objective import loss_terms


def mixtral_block(experts: SparseExperts, top_k: int) -> MixtralSparseMoeBlock:
    """transformers' block with the same weights."""
    count, two_width, d_model = experts.w1_EFD.shape
    config = MixtralConfig(
        hidden_size=d_model, intermediate_size=two_width // 2, num_local_experts=count, num_experts_per_tok=top_k
    )
    config._experts_implementation = "eager"
    block = MixtralSparseMoeBlock(config)
    with torch.no_grad():
        block.gate.weight.copy_(experts.router_ED)
        block.experts.gate_up_proj.copy_(experts.w1_EFD)
        block.experts.down_proj.copy_(experts.w2_EDF)
    return block


@pytest.mark.parametrize(("count", "top_k"), [(4, 2), (8, 2), (5, 1), (4, 4)])
def test_it_is_mixtrals_block_on_the_same_weights(count: int, top_k: int) -> None:
    config = make_config("topk-swiglu", "model.d_model=64", f"model.num_experts={count}", f"model.topk.top_k={top_k}")
    torch.manual_seed(0)
    ours = SparseExperts(config.model, 0.02)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(std=0.1)
    theirs = mixtral_block(ours, top_k)
    x = torch.randn(3, 20, 64)
    mine, other = x.flatten(0, 1).clone().requires_grad_(), x.clone().requires_grad_()
    said, routes, _ = ours(mine)
    expected = theirs(other)
    torch.testing.assert_close(said, expected.flatten(0, 1), rtol=0, atol=1e-6)
    weight = torch.randn(60, 64)
    (said * weight).sum().backward()
    (expected.flatten(0, 1) * weight).sum().backward()
    torch.testing.assert_close(mine.grad, other.grad.flatten(0, 1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.w1_EFD.grad, theirs.experts.gate_up_proj.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.router_ED.grad, theirs.gate.weight.grad, rtol=1e-5, atol=1e-5)
    # transformers sums over the k choices what we average.
    balance = load_balancing_loss_func((routes.logits_NE,), count, top_k)
    torch.testing.assert_close(load_balance(routes), balance / top_k, rtol=1e-5, atol=1e-6)


def test_it_is_the_loop_over_tokens() -> None:
    torch.manual_seed(0)
    experts = SparseExperts(make_config("topk").model, 0.02).double()
    with torch.no_grad():
        for parameter in experts.parameters():
            parameter.normal_(std=0.3)
    x = torch.randn(9, 16, dtype=torch.float64)
    said, _, _ = experts(x)
    for token, value in zip(x, said, strict=True):
        probability = torch.softmax(experts.router_ED @ token, 0)
        best = probability.argsort(descending=True)[:2]
        expected = sum(
            probability[e] / probability[best].sum() * (experts.w2_EDF[e] @ F.relu(experts.w1_EFD[e] @ token) ** 2)
            for e in best
        )
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)


def test_places_sort_by_expert_and_pad() -> None:
    chosen = torch.tensor([2, 0, 2, 2, 0])
    row, padded, total = _places(chosen, 4)
    assert total == padded.sum() == 5 * PAD_ROWS
    assert padded[:3].tolist() == [PAD_ROWS] * 3
    assert row.tolist() == [16, 0, 17, 18, 1]


def test_the_fused_product_is_the_loop() -> None:
    """The kernel that a GPU uses has a version for CPUs, too."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(48, 16, generator=generator).bfloat16().requires_grad_()
    weight = torch.randn(3, 32, 16, generator=generator).bfloat16().requires_grad_()
    sizes = torch.tensor([8, 24, 16])
    results = []
    for split in (None, sizes.tolist()):
        out = grouped(rows, weight, split, sizes.cumsum(0).int())
        results.append((out, *torch.autograd.grad((out * out).sum(), (rows, weight))))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.1)


def test_balanced_routes_have_loss_one_and_collapsed_ones_the_number_of_experts() -> None:
    even = Routes(torch.tensor([[0], [1], [2], [3]]), torch.ones(4, 1), torch.zeros(4, 4), torch.full((4, 4), 0.25))
    assert load_balance(even).item() == pytest.approx(1.0)
    certain = torch.eye(4)[torch.zeros(4, dtype=torch.long)]
    assert load_balance(Routes(torch.zeros(4, 1, dtype=torch.long), torch.ones(4, 1), certain, certain)) == 4.0


def test_the_loss_holds_both_terms_with_their_weights_and_no_padding() -> None:
    config = make_config("topk", "model.topk.load_balance_weight=0.5", "model.topk.router_z_weight=0.25")
    model = stir(make_model("topk", "model.topk.load_balance_weight=0.5", "model.topk.router_z_weight=0.25"))
    batch = make_batch()
    batch.documents_BT[:, 8:] = 0
    batch.labels_BT[:, 8:] = -100
    total, terms, _ = loss_terms(model, batch, config.train)
    assert set(terms) == {"task", "load_balance", "router_z"}
    expected = terms["task"] + 2 * (0.5 * terms["load_balance"] + 0.25 * terms["router_z"])  # two layers
    torch.testing.assert_close(total, expected)
    batch.input_ids_BT[:, 8:] = 3
    again = loss_terms(model, batch, config.train)[1]
    torch.testing.assert_close(again["load_balance"], terms["load_balance"])


def test_routes_take_the_best_and_sum_to_one() -> None:
    routes = route(torch.eye(3), torch.tensor([[1.0, 0, 3], [2, 5, 1], [0, 1, 2]]), 2)
    assert routes.expert_NK.tolist() == [[1, 0], [1, 2], [0, 2]]
    torch.testing.assert_close(routes.weight_NK.sum(-1), torch.ones(3))


def test_more_experts_per_token_than_experts_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"topk.top_k = 5 is more than num_experts = 4"):
        make_config("topk", "model.topk.top_k=5")
