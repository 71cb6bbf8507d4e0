"""Invariants of the hypergraph coupling, in float64."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import full_operator, hypergraph_operator
from torch import Tensor
from variants import logits_of, make_batch, make_model, stir

from moe_hub.architectures import ghost_hyperedges, hyperedges
from moe_hub.models.coupling import HypergraphCoupling, incidence, mixing_matrix

CPU = torch.device("cpu")
STRATEGIES = ["all_pairs", "all_triplets", "all", "all_orders"]


def operator(strategy: str, experts: int, weight_H: Tensor) -> Tensor:
    return mixing_matrix(incidence(tuple(hyperedges(strategy, experts)), experts, CPU), weight_H)


def test_the_strategies_name_these_hyperedges() -> None:
    assert hyperedges("all_pairs", 3) == [(0, 1), (0, 2), (1, 2)]
    assert hyperedges("all_triplets", 3) == [(0, 1, 2)]
    assert hyperedges("all", 4) == [(0, 1, 2, 3)]
    assert hyperedges("all_orders", 3) == [(0, 1), (0, 2), (1, 2), (0, 1, 2)]
    assert hyperedges("all_triplets", 2) == hyperedges("all_pairs", 1) == []
    assert ghost_hyperedges("all_pairs", 2, 2) == [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert ghost_hyperedges("all", 3, 2) == [(0, 1, 2, 3), (0, 1, 2, 4)]
    assert ghost_hyperedges("all_pairs", 2, 0) == []


@given(strategy=st.sampled_from(STRATEGIES), experts=st.integers(2, 6), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_rows_sum_to_one_and_entries_are_not_negative(strategy: str, experts: int, seed: int) -> None:
    edges = hyperedges(strategy, experts)
    draws = torch.randn(len(edges), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    matrix = operator(strategy, experts, draws.exp())
    torch.testing.assert_close(matrix.sum(1), torch.ones(experts, dtype=torch.float64), rtol=0, atol=1e-15)
    assert (matrix >= 0).all()
    torch.testing.assert_close(matrix, hypergraph_operator(edges, draws.exp(), experts), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("strategy", "experts"), [("all_pairs", 4), ("all_triplets", 5), ("all", 4)])
def test_without_self_edges_unit_weights_disappear_under_a_mean(strategy: str, experts: int) -> None:
    """The lemma behind self-hyperedges, residual, nonlinearity and gate: D^-1 H B^-1 H^T is doubly stochastic."""
    member = incidence(tuple(hyperedges(strategy, experts)), experts, CPU).double()
    plain = (member / member.sum(0)) @ member.T / member.sum(1, keepdim=True)
    torch.testing.assert_close(plain.sum(0), torch.ones(experts, dtype=torch.float64))


@pytest.mark.parametrize(
    ("strategy", "experts"), [("all_pairs", 2), ("all_pairs", 4), ("all_triplets", 3), ("all_triplets", 5), ("all", 4)]
)
def test_every_hyperedge_weight_gets_a_gradient(strategy: str, experts: int) -> None:
    """Also with one hyperedge alone, where D^-1 would cancel its weight."""
    weight_H = torch.ones(len(hyperedges(strategy, experts)), dtype=torch.float64, requires_grad=True)
    value = torch.randn(experts, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (operator(strategy, experts, weight_H) @ value).square().sum().backward()
    assert weight_H.grad is not None
    assert weight_H.grad.abs().min() > 1e-6


def test_it_is_the_convolution_of_torch_geometric_at_unit_weights() -> None:
    """On the incidence [H | I]. With other weights torch_geometric leaves W out of H W B^-1 H^T (its issue 6918).

    If the second half fails they have changed that: then compare weighted operators with theirs, too.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch_geometric.nn import HypergraphConv

    experts, edges = 5, hyperedges("all_pairs", 5) + [(e,) for e in range(5)]
    index = torch.tensor([[node, number] for number, edge in enumerate(edges) for node in edge]).T
    theirs = HypergraphConv(4, 4, bias=False).double()
    with torch.no_grad():
        theirs.lin.weight.copy_(torch.eye(4))
    x = torch.randn(experts, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    unit = torch.ones(len(edges) - experts, dtype=torch.float64)
    torch.testing.assert_close(theirs(x, index), operator("all_pairs", experts, unit) @ x, rtol=0, atol=1e-14)

    weights = torch.rand(len(unit), dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5
    all_weights = torch.cat((weights, torch.ones(experts, dtype=torch.float64)))
    ours = operator("all_pairs", experts, weights) @ x
    assert (theirs(x, index, hyperedge_weight=all_weights) - ours).abs().max() > 0.01


@pytest.mark.parametrize("variant", ["hgnn", "hgnn-triplets", "hgnn-orders", "gnn", "geometric", "orthogonal"])
def test_experts_may_be_numbered_in_any_order(variant: str) -> None:
    model = stir(make_model(variant), 0.2).double().eval()
    ids = make_batch().input_ids_BT
    before = logits_of(model, ids)
    order = [2, 0, 3, 1]
    with torch.no_grad():
        for layer in model.stack:
            for name, parameter in layer.named_parameters():
                if name.endswith(("qkv_EOD", "out_EDD", "w1_EFD", "w2_EDF", "gate.weight_ED", "theta")):
                    parameter.copy_(parameter[order].clone())
                if name.endswith("rho_H"):
                    _permute_hyperedges(layer.coupling[int(name.split(".")[1])], order)
                if name.endswith("edge_logit"):
                    full = torch.zeros(4, 4, dtype=torch.float64)
                    off = ~torch.eye(4, dtype=torch.bool)
                    full[off] = parameter
                    parameter.copy_(full[order][:, order][off])
    torch.testing.assert_close(logits_of(model, ids), before, rtol=1e-12, atol=1e-12)


def _permute_hyperedges(coupling: HypergraphCoupling, order: list[int]) -> None:
    old = dict(zip(coupling.edges, coupling.rho_H.tolist(), strict=True))
    new = [old[tuple(sorted(order[node] for node in edge))] for edge in coupling.edges]
    coupling.rho_H.copy_(torch.tensor(new, dtype=torch.float64))


def test_scale_zero_is_the_uncoupled_model_bit_for_bit() -> None:
    for architecture in ("hgnn", "gnn"):
        off = make_model(architecture, "model.coupling.scale=0")
        none = make_model(architecture, "model.coupling.num_layers=0")
        assert off.state_dict().keys() == none.state_dict().keys()
        ids = make_batch().input_ids_BT
        assert torch.equal(logits_of(off, ids), logits_of(none, ids))


def test_half_the_scale_is_half_the_message() -> None:
    full, half = (stir(make_model("hgnn", f"model.coupling.scale={s}")).stack[0].coupling[0] for s in (1.0, 0.5))
    delta = torch.randn(4, 6, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(half(delta) - delta, (full(delta) - delta) / 2)


def test_ghosts_asleep_leave_the_operator_as_it_is_without_them() -> None:
    coupling = stir(make_model("ghost")).double().stack[0].coupling[0]
    for activation in ([0.0, 0.0], [0.3, 0.0], [0.3, 0.8], [1.0, 1.0]):
        matrix = coupling.mixing_with_ghosts(torch.tensor(activation, dtype=torch.float64))
        torch.testing.assert_close(matrix, full_operator(coupling, activation), rtol=0, atol=1e-14)
        torch.testing.assert_close(matrix.sum(1), torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-15)
        if not any(activation):
            assert torch.equal(matrix[:4, :4], coupling.mixing())
            assert not matrix[:4, 4:].any()
            assert not matrix[4:, :4].any()


def test_graph_edges_can_be_cut() -> None:
    coupling = stir(make_model("gnn")).stack[0].coupling[0]
    delta = torch.randn(4, 6, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        coupling.edge_logit.fill_(float("-inf"))
    assert not coupling.attention(delta).any()
    changed = delta.clone()
    changed[3] += 1
    assert torch.equal(coupling(delta)[:3], coupling(changed)[:3])


def test_every_graph_edge_gets_a_gradient_and_no_expert_reads_itself() -> None:
    coupling = stir(make_model("gnn")).double().stack[0].coupling[0]
    delta = torch.randn(4, 6, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    coupling(delta).square().sum().backward()
    assert coupling.edge_logit.grad.abs().min() > 0
    assert not coupling.attention(delta).diagonal(dim1=1, dim2=2).any()
