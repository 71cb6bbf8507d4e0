"""The plain references compute what the models compute, so the times compared are times of the same work."""

from __future__ import annotations

import pytest
import torch

from benchmarks.first_implementation import FirstModel
from benchmarks.naive import NaiveModel, NaiveShape
from benchmarks.training_step import Shape, model_of
from moe_hub.models.language_model import LanguageModel

SHAPE = Shape(d_model=16, layers=2, heads=2, experts=4, batch=2, length=10, vocab=23)


def twin(model: LanguageModel, vocab: int) -> NaiveModel:
    """The plain model with the weights of `model`, in float64."""
    naive = NaiveModel(NaiveShape.of(model.settings, vocab)).double()
    naive.embedding.weight.data.copy_(model.embedding.weight)
    for plain, layer in zip(naive.layers, model.layers, strict=True):
        for number, expert in enumerate(plain.experts):
            expert.qkv.weight.data.copy_(layer.attention.qkv_EOD[number])
            expert.out.weight.data.copy_(layer.attention.out_EDD[number])
            expert.up.weight.data.copy_(layer.feed_forward.w1_EFD[number])
            expert.down.weight.data.copy_(layer.feed_forward.w2_EDF[number])
            if expert.theta_P is not None:
                expert.theta_P.data.copy_(layer.rotation.theta[number])
        coupling = layer.coupling[0]
        plain.router.weight.data[: layer.num_experts].copy_(layer.gate.weight_ED)
        plain.coupling.rho.data[: len(coupling.rho_H)].copy_(coupling.rho_H)
        plain.coupling.project.weight.data.copy_(coupling.w1_DR.T)
        plain.coupling.expand.weight.data.copy_(coupling.u_RD.T)
    return naive


def randomised(architecture: str, **overrides: object) -> LanguageModel:
    """A model in float64, every parameter random: no gate is uniform, no angle 0, no edge weight 1. Ghosts sleep."""
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    model = model_of(SHAPE.config(architecture, dotted), SHAPE.vocab).double()
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


@pytest.mark.parametrize("strategy", ["all_pairs", "all_triplets", "all"])
@pytest.mark.parametrize("architecture", ["hgnn", "geometric", "ghost"])
def test_naive_is_the_same_function(architecture: str, strategy: str) -> None:
    model = randomised(architecture, model__coupling__strategy=strategy)
    naive = twin(model, SHAPE.vocab)
    ids_BT = next(SHAPE.batches()).input_ids_BT
    expected = naive(ids_BT)
    assert expected.std() > 0.1
    torch.testing.assert_close(model(input_ids=ids_BT).logits.double(), expected, rtol=0, atol=1e-6)


def test_naive_has_the_same_gradients() -> None:
    model = randomised("geometric")
    naive = twin(model, SHAPE.vocab)
    ids_BT = next(SHAPE.batches()).input_ids_BT
    model(input_ids=ids_BT).logits.double().square().mean().backward()
    naive(ids_BT).square().mean().backward()
    layer, plain = model.layers[0], naive.layers[0]
    for number, expert in enumerate(plain.experts):
        torch.testing.assert_close(layer.feed_forward.w1_EFD.grad[number], expert.up.weight.grad, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(layer.rotation.theta.grad[number], expert.theta_P.grad, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(layer.coupling[0].rho_H.grad, plain.coupling.rho.grad, rtol=1e-5, atol=1e-7)


def test_naive_and_model_have_as_many_parameters() -> None:
    for architecture in ("hgnn", "geometric"):
        settings = SHAPE.config(architecture).model
        naive = NaiveModel(NaiveShape.of(settings, SHAPE.vocab))
        model = model_of(SHAPE.config(architecture), SHAPE.vocab)
        assert sum(p.numel() for p in naive.parameters()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("experts", "leaks"), [(3, False), (5, True)])
def test_first_implementation_leaks_where_it_is_known_to(experts: int, leaks: bool) -> None:
    """With more hyperedges than experts its messages cross tokens: the fault that tells the rewrite is faithful."""
    torch.manual_seed(0)
    model = FirstModel(SHAPE, experts).eval()
    ids_BT = next(SHAPE.batches()).input_ids_BT
    changed_BT = ids_BT.clone()
    changed_BT[0, -1] = (changed_BT[0, -1] + 1) % SHAPE.vocab
    with torch.no_grad():
        difference = (model(ids_BT) - model(changed_BT))[0, :-1].abs().max()
    assert bool(difference > 1e-4) == leaks


def test_first_implementation_ignores_its_ghosts() -> None:
    torch.manual_seed(0)
    model = FirstModel(SHAPE, experts=2, ghosts=2).eval()
    ids_BT = next(SHAPE.batches()).input_ids_BT
    before = model(ids_BT)
    for layer in model.layers:
        for parameter in layer.ghosts.parameters():
            parameter.data.normal_()
    torch.testing.assert_close(model(ids_BT), before, rtol=0, atol=0)
