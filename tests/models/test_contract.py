"""What every architecture must do, over the table and all choices that change the computation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from variants import VARIANTS, VOCAB, logits_of, make_batch, make_config, make_model, stir, wake_ghosts

from moe_hub.architectures import ARCHITECTURES, count_parameters, measured_metrics
from moe_hub.models.language_model import LanguageModel
from moe_hub.runs.metrics import find_metric
from moe_hub.train.adaptation import StepFacts, after_step
from moe_hub.train.objective import loss_terms
from moe_hub.train.optimization import GROUPS, build_optimizer, named_groups, set_rates

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def ready(variant: str, *more: str) -> LanguageModel:
    """A model away from special points, ghosts in the middle of their ramp."""
    return wake_ghosts(stir(make_model(variant, *more)))


def test_the_variants_cover_the_table() -> None:
    assert {make_config(variant).model.architecture for variant in VARIANTS} == set(ARCHITECTURES)


@every_variant
def test_forward_gives_logits_and_a_finite_loss(variant: str) -> None:
    batch = make_batch(3, 10)
    output = make_model(variant)(input_ids=batch.input_ids_BT, labels=batch.labels_BT)
    assert output.logits.shape == (3, 10, VOCAB)
    assert 2.0 < output.loss.item() < 2.8  # near ln 11 = 2.398: untrained


@every_variant
def test_every_trainable_parameter_gets_a_gradient(variant: str) -> None:
    config = make_config(variant)
    model = ready(variant)
    total, _, _ = loss_terms(model, make_batch(4, 16), config.train)
    total.backward()
    idle = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert idle == []


@every_variant
def test_every_trainable_parameter_is_in_one_group(variant: str) -> None:
    model = make_model(variant)
    trainable = {p for p in model.parameters() if p.requires_grad}
    for optimizer_name in ("adamw", "muon"):
        config = make_config(variant, f"train.optimizer={optimizer_name}")
        optimizer = build_optimizer(model, config.train)
        held = [p for group in optimizer.param_groups for p in group["params"]]
        assert len(held) == len(set(held))
        assert set(held) == trainable
        assert {group["name"] for group in optimizer.param_groups} <= set(GROUPS)
    assert sum(len(group) for group in named_groups(model).values()) == len(trainable)


@every_variant
@pytest.mark.parametrize("state", ["eval", "train", "bf16"])
def test_no_token_sees_the_future_or_another_row(variant: str, state: str) -> None:
    model = ready(variant, "model.dropout=0.2").train(state == "train")
    ids = make_batch(2, 12).input_ids_BT
    changed = ids.clone()
    changed[0, 7:] = (changed[0, 7:] + 3) % VOCAB
    changed[1] = (changed[1] + 1) % VOCAB
    with torch.autocast("cpu", torch.bfloat16, enabled=state == "bf16"):
        before, after = logits_of(model, ids), logits_of(model, changed)
    assert torch.equal(before[0, :7], after[0, :7])
    assert not torch.equal(before[0, 7:], after[0, 7:])


@every_variant
@pytest.mark.parametrize("state", ["train", "bf16"])
def test_no_token_sees_another_document(variant: str, state: str) -> None:
    model = ready(variant).train(state == "train")
    ids = make_batch(1, 12).input_ids_BT
    documents = torch.tensor([[1] * 5 + [2] * 4 + [0] * 3])
    changed = ids.clone()
    changed[0, :5] = (changed[0, :5] + 3) % VOCAB
    changed[0, 9:] = (changed[0, 9:] + 3) % VOCAB
    with torch.autocast("cpu", torch.bfloat16, enabled=state == "bf16"):
        before, after = logits_of(model, ids, documents), logits_of(model, changed, documents)
    assert torch.equal(before[0, 5:9], after[0, 5:9])
    alone = logits_of(model.float(), ids[:, 5:9])
    if state != "bf16":
        torch.testing.assert_close(before[0, 5:9], alone[0], atol=2e-5, rtol=1e-4)


@every_variant
def test_the_same_seed_gives_the_same_bits(variant: str) -> None:
    first, second = make_model(variant).state_dict(), make_model(variant).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = make_model(variant, "seed=1")
    assert not torch.equal(other.embedding.weight, first["embedding.weight"])


@every_variant
def test_a_saved_model_loads_bit_for_bit(variant: str, tmp_path: Path) -> None:
    model = ready(variant).eval()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(loaded, LanguageModel)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)
    ids = make_batch().input_ids_BT
    assert torch.equal(logits_of(loaded.eval(), ids), logits_of(model, ids))


@every_variant
def test_the_declared_metrics_are_measured(variant: str) -> None:
    config = make_config(variant)
    model = ready(variant)
    batch = make_batch()
    with torch.no_grad():
        measures = model(input_ids=batch.input_ids_BT, measure=True).measures
    optimizer = build_optimizer(model, config.train)
    found = after_step(model, optimizer, config, StepFacts(1, 2.0, 2.3, 1.0))
    names = [*measures, *(name for name in found if not name.startswith("event/"))]
    assert sorted(names) == sorted(measured_metrics(config.model))
    for name, value in measures.items():
        metric = find_metric(name)
        assert metric is not None
        assert value.ndim == metric.shape.count(",") + (metric.shape != "") or name == "probe/rotated", name
        assert torch.isfinite(value.float()).all(), name
        assert not value.requires_grad


def test_the_table_declares_what_default_settings_measure() -> None:
    for name, row in ARCHITECTURES.items():
        assert set(row.metrics) == set(measured_metrics(make_config(name).model))
        assert all(find_metric(metric) is not None for metric in row.metrics)


@every_variant
def test_the_parameter_formula_is_exact(variant: str) -> None:
    model = make_model(variant)
    count = count_parameters(make_config(variant).model, VOCAB)
    assert count.total == sum(p.numel() for p in model.parameters()) == sum(count.parts.values())
    assert 0 < count.active <= count.total
    assert all(count.parts.values())


@every_variant
def test_one_step_trains(variant: str) -> None:
    config = make_config(variant, "train.learning_rate=0.01")
    model = make_model(variant)
    optimizer = build_optimizer(model, config.train)
    batch = make_batch()
    losses = []
    for step in range(1, 4):
        set_rates(optimizer, 1.0)
        optimizer.zero_grad()
        total, terms, _ = loss_terms(model, batch, config.train)
        total.backward()
        optimizer.step()
        after_step(model, optimizer, config, StepFacts(step, terms["task"].item(), 2.3, 1.0))
        losses.append(terms["task"].item())
    assert losses[2] < losses[1] < losses[0]


def test_measuring_changes_nothing() -> None:
    for variant in ("geometric-ghosts", "gnn", "topk"):
        config = make_config(variant)
        results = []
        for measure in (False, True):
            model = ready(variant, "model.dropout=0.1")
            torch.manual_seed(3)
            total, _, _ = loss_terms(model, make_batch(), config.train, measure=measure)
            total.backward()
            results.append([total.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
