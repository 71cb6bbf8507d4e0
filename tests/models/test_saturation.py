"""What is unexplained: the measures of saturation against numpy, token by token, and in training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from variants import make_batch, make_config, make_model, stir

from moe_hub.data.batch import Batch
from moe_hub.figures.ghost_replay import Wake, read_rules, replay
from moe_hub.models import measures
from moe_hub.models.language_model import LanguageModel
from moe_hub.runs.history import RunHistory
from moe_hub.train.adaptation import StepFacts, after_step
from moe_hub.train.objective import loss_terms
from moe_hub.train.optimization import build_optimizer, set_rates

MEASURES = ["explained", "fvu_grad", "legacy"]
OWN = {"fvu_grad": "ghost/gradient_fvu", "legacy": "ghost/residual_variance"}
QUICK = ("model.ghost.saturation_window=4", "model.ghost.min_step=4", "model.ghost.plateau=1.0")
every_measure = pytest.mark.parametrize("measure", MEASURES)


def measured_by(measure: str) -> str:
    return f"model.ghost.saturation_measure={measure}"


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_lstsq(delta_END: Tensor, pull_ND: Tensor) -> tuple[float, float]:
    """Squared length of the residual of least squares, and of r, token by token."""
    rest = 0.0
    deltas, pulls = delta_END.double().numpy(), pull_ND.double().numpy()
    for token, pull in enumerate(pulls):
        basis = deltas[:, token].T  # (D, E)
        mix = np.linalg.lstsq(basis, pull, rcond=1e-9)[0]
        rest += float(((pull - basis @ mix) ** 2).sum())
    return rest, float((pulls**2).sum())


@pytest.mark.parametrize("shape", [(1, 3, 4), (4, 20, 16), (8, 9, 32), (5, 6, 3)])
def test_outside_span_is_the_residual_of_least_squares(shape: tuple[int, int, int]) -> None:
    delta, pull = draws(*shape) + 0.5, draws(*shape[1:], seed=1)
    found = measures.outside_span(delta, pull)
    assert found.tolist() == pytest.approx(by_lstsq(delta, pull), rel=1e-11, abs=1e-14 * float(found[1]))


def test_outside_span_where_the_span_lacks_directions() -> None:
    delta, pull = draws(5, 12, 16), draws(12, 16, seed=1)
    delta[3], delta[4] = -2.5 * delta[0], 0.0  # a copy of another length, and an expert that is silent
    found = measures.outside_span(delta, pull)
    assert found.tolist() == pytest.approx(by_lstsq(delta, pull), rel=1e-9)
    torch.testing.assert_close(found, measures.outside_span(delta[:3], pull), rtol=1e-9, atol=0)
    rounded = measures.outside_span(delta.bfloat16(), pull.bfloat16())
    torch.testing.assert_close(rounded, found, rtol=0.03, atol=0)  # 1/13 less if what is rounded off were a direction
    assert measures.outside_span(delta[:, :0], pull[:0]).tolist() == [0.0, 0.0]


def test_outside_span_by_hand() -> None:
    """Span of e1 and e1 + e2; of r = (1, 2, 2) the last coordinate stays, 4 of 9. A token without r does not count."""
    delta = torch.tensor([[[3.0, 0, 0], [1, 1, 1]], [[1.0, 1, 0], [1, 0, 0]]])
    rest, whole = measures.outside_span(delta, torch.tensor([[1.0, 2, 2], [0, 0, 0]]))
    assert rest.item() == pytest.approx(4)
    assert whole.item() == pytest.approx(9)


@given(seed=st.integers(0, 500), scale=st.floats(1e-12, 1e3), stretch=st.floats(1e-6, 1e6))
@settings(max_examples=25, deadline=None)
def test_the_share_is_bounded_and_blind_to_length(seed: int, scale: float, stretch: float) -> None:
    delta, pull = draws(4, 6, 8, seed=seed), draws(6, 8, seed=seed + 1000)
    rest, whole = measures.outside_span(delta, pull).tolist()
    assert 0 <= rest <= whole
    delta[1] *= stretch
    other, larger = measures.outside_span(-7 * delta, scale * pull).tolist()
    assert other / larger == pytest.approx(rest / whole, rel=1e-6)


@pytest.mark.parametrize(("experts", "width"), [(4, 64), (8, 32)])
def test_independent_directions_leave_one_minus_experts_over_width(experts: int, width: int) -> None:
    shares = []
    for seed in range(60):
        rest, whole = measures.outside_span(draws(experts, 40, width, seed=seed), draws(40, width, seed=seed + 1000))
        shares.append(float(rest / whole))
    sigma = float(np.std(shares)) / math.sqrt(len(shares))
    assert abs(np.mean(shares) - (1 - experts / width)) < 3 * sigma
    assert sigma < 0.01


def backward(model: LanguageModel, batch: Batch, share: float = 1.0, **options: bool) -> list[tuple[Tensor, Tensor]]:
    """One forward and backward pass; the deltas of each layer and the gradient at its output, from hooks here."""
    kept: list[dict[str, Tensor]] = [{} for _ in model.stack]

    def keep(number: int, output: Any) -> None:
        kept[number]["delta"] = output[1].delta_END.detach()
        output[0].register_hook(lambda grad: kept[number].update(grad=grad.flatten(0, 1)))

    hooks = [
        layer.register_forward_hook(lambda _module, _inputs, output, number=number: keep(number, output))
        for number, layer in enumerate(model.stack)
    ]
    config = make_config("ghost")
    with torch.autocast("cpu", torch.bfloat16, enabled=options.get("bf16", False)):
        total, _, _ = loss_terms(model, batch, config.train)
    (total * share).backward()
    for hook in hooks:
        hook.remove()
    return [(one["delta"], one["grad"]) for one in kept]


def adapted(model: LanguageModel, step: int = 1) -> dict[str, Any]:
    config = make_config("ghost", measured_by(model.stack[0].ghosts.saturation.measure))
    return after_step(model, build_optimizer(model, config.train), config, StepFacts(step, 2.0, 2.3, 1.0))


def test_a_layer_measures_the_gradient_at_its_own_output() -> None:
    """Over two accumulated batches of unequal weight, against least squares from what hooks of the test saw."""
    model = stir(make_model("ghost", measured_by("fvu_grad")))
    seen = [backward(model, make_batch(2, 12, seed=1), 0.25), backward(model, make_batch(3, 9, seed=2), 0.75)]
    found = adapted(model)
    expected = []
    for layer in range(2):
        parts = [by_lstsq(*one[layer]) for one in seen]
        expected.append(sum(part[0] for part in parts) / sum(part[1] for part in parts))
    assert found["ghost/gradient_fvu"].tolist() == pytest.approx(expected, rel=1e-5)
    assert all(0.3 < share < 1 for share in expected)  # 1 - 4/16 is the null value
    product = found["ghost/diversity"] * found["ghost/gradient_fvu"]
    torch.testing.assert_close(found["ghost/saturation"], product, rtol=0, atol=0)
    assert found["ghost/unexplained"].item() == pytest.approx(2.0 / 2.3)


def test_accumulation_and_loss_scale_do_not_matter() -> None:
    whole = make_batch(4, 12)
    halves = [Batch(*(part[rows] for part in (whole.input_ids_BT, whole.labels_BT, whole.documents_BT)))
              for rows in (slice(0, 2), slice(2, 4))]  # fmt: skip
    found = []
    for batches, share in (([whole], 1.0), (halves, 0.5), ([whole], 512.0)):
        model = stir(make_model("ghost", measured_by("fvu_grad")))
        for batch in batches:
            backward(model, batch, share)
        found.append(adapted(model)["ghost/gradient_fvu"])
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(found[2], found[0], rtol=1e-5, atol=0)


def test_padding_does_not_count() -> None:
    short = make_batch(2, 8)
    ids = torch.cat((short.input_ids_BT, torch.zeros(2, 4, dtype=torch.long)), 1)
    labels = torch.cat((short.labels_BT, torch.full((2, 4), -100)), 1)
    padded = Batch(ids, labels, torch.cat((torch.ones(2, 8), torch.zeros(2, 4)), 1).long())
    for measure in ("fvu_grad", "legacy"):
        values = []
        for batch in (short, padded):
            model = stir(make_model("ghost", measured_by(measure)))
            backward(model, batch)
            values.append(adapted(model)[OWN[measure]])
        torch.testing.assert_close(values[1], values[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("measure", ["fvu_grad", "legacy"])
def test_bf16_autocast_gives_the_same_to_two_digits(measure: str) -> None:
    values = []
    for bf16 in (False, True):
        model = stir(make_model("ghost", measured_by(measure)))
        backward(model, make_batch(4, 16), bf16=bf16)
        assert model.stack[0].ghosts.saturation.parts[0].dtype != torch.bfloat16
        values.append(adapted(model)[OWN[measure]])
    torch.testing.assert_close(values[1], values[0], rtol=0.02, atol=0)
    assert not torch.equal(values[1], values[0])


def test_a_step_without_a_gradient_tells_nothing() -> None:
    model = stir(make_model("ghost", measured_by("fvu_grad")))
    backward(model, make_batch())
    first = adapted(model)["ghost/gradient_fvu"].clone()
    backward(model, make_batch(), share=0.0)
    assert torch.equal(adapted(model, 2)["ghost/gradient_fvu"], first)
    backward(model, make_batch(seed=5))
    third = adapted(model, 3)["ghost/gradient_fvu"]
    assert not torch.equal(third, first)


def test_legacy_is_the_rule_of_the_first_implementation() -> None:
    """From the inputs and deltas of each layer, in numpy: gram of normalised mean outputs, variance of the residual."""
    model = stir(make_model("ghost", measured_by("legacy")))
    kept: list[tuple[Tensor, Tensor]] = []
    hooks = [
        layer.register_forward_hook(
            lambda _module, inputs, output: kept.append(
                (inputs[0].detach().flatten(0, 1), output[1].delta_END.detach())
            )
        )
        for layer in model.stack
    ]
    loss_terms(model, make_batch(), make_config("ghost").train)
    for hook in hooks:
        hook.remove()
    found = adapted(model)
    for layer, (stream, delta) in enumerate(kept):
        x, outputs = stream.double().numpy(), (stream + delta).double().numpy()
        mean = outputs.mean(1)
        unit = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        score = 1 - ((unit @ unit.T - np.eye(4)) ** 2).mean()
        variance = (x - outputs.mean(0)).var()
        assert found["ghost/diversity"][layer].item() == pytest.approx(score, rel=1e-4)
        assert found["ghost/residual_variance"][layer].item() == pytest.approx(variance, rel=1e-4)
        assert found["ghost/saturation"][layer].item() == pytest.approx(score * variance, rel=1e-4)
        assert 0.1 < score < 0.9


def train(measure: str, steps: int, *more: str) -> tuple[LanguageModel, list[dict[str, Any]]]:
    """Steps as the trainer does them, on a loss that stands still for the state machine."""
    config, model = make_config("ghost", measured_by(measure), *more), make_model("ghost", measured_by(measure), *more)
    optimizer, found = build_optimizer(model, config.train), []
    for step in range(1, steps + 1):
        set_rates(optimizer, 0.5)
        optimizer.zero_grad()
        loss_terms(model, make_batch(seed=step), config.train)[0].backward()
        optimizer.step()
        found.append(after_step(model, optimizer, config, StepFacts(step, 2.0, 2.3, 0.5)))
    return model, found


@every_measure
def test_the_running_mean_is_over_the_window(measure: str) -> None:
    """A plain mean of the steps at first; from the length of the window on the newest counts 1/window."""
    _, found = train(measure, 3, "model.ghost.saturation_window=2", "model.ghost.min_step=1000")
    assert set(OWN.values()) & found[0].keys() == ({OWN[measure]} if measure in OWN else set())
    if measure in OWN:
        model, _ = train(measure, 1, "model.ghost.saturation_window=2", "model.ghost.min_step=1000")
        saturation = model.stack[0].ghosts.saturation
        for step, share in ((1, 0.5), (2, 0.7), (3, 0.1)):
            saturation.update(torch.eye(4), step, 2.0, 2.3, torch.tensor([3 * share, 3.0]))
        assert saturation.own_unexplained.item() == pytest.approx((0.5 + 0.7) / 2 / 2 + 0.1 / 2)


@every_measure
def test_the_measure_decides_when_ghosts_wake_and_nothing_else(measure: str) -> None:
    """Below every saturation all wake, above it none does; while none does, training is the same to the last bit."""
    _, found = train(measure, 8, *QUICK, "model.ghost.activation_threshold=0.0")
    assert [row.get("event/ghost_woken") for row in found] == [None] * 7 + [[[1, 0], [1, 0]]]
    asleep, found = train(measure, 8, *QUICK, "model.ghost.activation_threshold=2.0")
    assert not any("event/ghost_woken" in row for row in found)
    other, _ = train("explained", 8, *QUICK, "model.ghost.activation_threshold=2.0")
    theirs = dict(other.named_parameters())
    assert all(torch.equal(weight, theirs[name]) for name, weight in asleep.named_parameters())
    assert all(not layer.ghosts.saturation.parts for layer in asleep.stack)
    assert float(found[-1]["ghost/saturation"].max()) < 2.0


@every_measure
def test_evaluation_and_passes_without_a_loss_leave_no_trace(measure: str) -> None:
    model, _ = train(measure, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = make_batch()
    model.eval()
    with torch.no_grad():
        model(input_ids=batch.input_ids_BT, labels=batch.labels_BT, measure=True)
    model.train()
    with torch.no_grad():
        model(input_ids=batch.input_ids_BT, labels=batch.labels_BT)
    model(input_ids=batch.input_ids_BT)
    assert all(layer.statistics == layer.ghosts.saturation.parts == [] for layer in model.stack)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@every_measure
def test_a_replay_of_the_log_wakes_what_training_woke(measure: str) -> None:
    """At a threshold in the middle of the saturations that were seen, where layers differ."""
    _, free = train(measure, 24, *QUICK, "model.ghost.activation_threshold=2.0")
    middle = float(torch.stack([row["ghost/saturation"] for row in free]).quantile(0.4))
    more = (*QUICK, f"model.ghost.activation_threshold={middle:.6g}")
    _, found = train(measure, 24, *more)
    rows = [{"step": step, **{name: np.asarray(value) for name, value in row.items()}}
            for step, row in enumerate(found, 1)]  # fmt: skip
    config = make_config("ghost", measured_by(measure), *more).model_dump()
    history = RunHistory("run", config, None, rows)
    woken = [Wake(row["step"], layer) for row in rows if "event/ghost_woken" in row
             for layer, ghosts in enumerate(row["event/ghost_woken"]) if ghosts.any()]  # fmt: skip
    assert woken
    rules = read_rules(history)
    assert replay(history, rules, rules.threshold) == woken
    assert replay(history, rules, 2.0) == []
