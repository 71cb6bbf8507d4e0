"""Ghost experts: nothing while dormant, nothing at the moment of waking, and a state that only training moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from variants import logits_of, make_batch, make_config, make_model, stir, wake_ghosts

from moe_hub.config import Config
from moe_hub.errors import ConfigError
from moe_hub.models.ghost_experts import ACTIVATING, ACTIVE, DORMANT
from moe_hub.models.language_model import LanguageModel
from moe_hub.models.router import ghost_shares
from moe_hub.train.adaptation import StepFacts, after_step
from moe_hub.train.objective import loss_terms
from moe_hub.train.optimization import build_optimizer, set_rates

WITH_GHOSTS = ["ghost", "ghost-ffn-mean", "ghost-all", "ghost-one", "geometric-ghosts"]
QUICK = (
    "model.ghost.saturation_window=4", "model.ghost.min_step=4", "model.ghost.plateau=1.0",
    "model.ghost.activation_threshold=0.0", "train.ghost_learning_rate=0.01",
)  # fmt: skip
every_variant = pytest.mark.parametrize("variant", WITH_GHOSTS)


def train(
    model: LanguageModel,
    config: Config,
    steps: range,
    optimizer: torch.optim.Optimizer | None = None,
    loss: Callable[[int], float] | None = None,
) -> tuple[torch.optim.Optimizer, list[dict[str, object]]]:
    """Training steps as the trainer does them; `loss` replaces the task loss that the state machine sees."""
    optimizer = optimizer or build_optimizer(model, config.train)
    found = []
    for step in steps:
        set_rates(optimizer, 0.5)
        optimizer.zero_grad()
        total, terms, _ = loss_terms(model, make_batch(seed=step), config.train)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen = terms["task"].item() if loss is None else loss(step)
        found.append(after_step(model, optimizer, config, StepFacts(step, seen, 2.3, 0.5)))
    return optimizer, found


@every_variant
def test_dormant_ghosts_are_no_ghosts_bit_for_bit(variant: str) -> None:
    """Logits, gradients and three optimizer steps, also with background learning on."""
    none = "model.geometric.ghosts=false" if variant == "geometric-ghosts" else "model.ghost.num_ghosts=0"
    trained = []
    for more in ((none,), ("model.ghost.background_learning=true",)):
        config = make_config(variant, *more)
        model = make_model(variant, *more)
        train(model, config, range(1, 4))
        trained.append({n: p for n, p in model.named_parameters() if "ghost" not in n})
    assert trained[0].keys() == trained[1].keys()
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


@every_variant
def test_dormant_ghosts_cost_no_operation(variant: str) -> None:
    none = "model.geometric.ghosts=false" if variant == "geometric-ghosts" else "model.ghost.num_ghosts=0"
    counts = []
    for model in (make_model(variant, none), make_model(variant), wake_ghosts(make_model(variant))):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(input_ids=make_batch().input_ids_BT)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] < counts[2]


@every_variant
@pytest.mark.parametrize("schedule", ["gradual", "binary"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_waking_changes_no_logit(variant: str, schedule: str, dtype: torch.dtype) -> None:
    """Bit for bit, at any point of the ramp, as long as the ghost has not learned."""
    model = stir(make_model(variant, f"model.ghost.activation_schedule={schedule}")).eval()
    for layer in model.stack:
        for ghost in layer.ghosts.experts:
            ghost.silence()
    ids = make_batch().input_ids_BT
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        asleep = logits_of(model, ids)
        wake_ghosts(model, 1)
        assert {layer.ghosts.activations()[0] for layer in model.stack} == {1.0 if schedule == "binary" else 0.25}
        assert torch.equal(logits_of(model, ids), asleep)
        wake_ghosts(model, 3)
        assert torch.equal(logits_of(model, ids), asleep)
        stir(model)
        assert not torch.equal(logits_of(model, ids), asleep)


def test_a_plain_softmax_over_experts_and_ghosts_would_change_the_function() -> None:
    """Why the shares of the experts stay as they are: a silent ghost would take a part of the sum."""
    logits, ghost = torch.zeros(1, 4), torch.zeros(1, 1)
    share = ghost_shares(logits, ghost, torch.tensor([1.0]))
    assert share.item() == pytest.approx(1 / 5)
    assert ghost_shares(logits, ghost, torch.tensor([0.0])).item() == 0.0
    plain = torch.softmax(torch.cat((logits, ghost), -1), -1)[:, :4].sum()
    assert plain.item() == pytest.approx(0.8)


@every_variant
def test_ghosts_get_a_gradient_only_once_awake(variant: str) -> None:
    config = make_config(variant)
    for awake in (False, True):
        model = stir(make_model(variant))
        if awake:
            wake_ghosts(model)
        loss_terms(model, make_batch(4, 16), config.train)[0].backward()
        grads = [p.grad for n, p in model.named_parameters() if ".ghosts." in n or "ghost_rho" in n]
        assert grads
        assert (
            all(grad is not None and bool(grad.any()) for grad in grads)
            if awake
            else not any(grad is not None for grad in grads)
        )


def test_evaluation_never_moves_the_state() -> None:
    model = wake_ghosts(make_model("ghost"), 1).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = make_batch()
    for _ in range(100):
        with torch.no_grad():
            model(input_ids=batch.input_ids_BT, labels=batch.labels_BT, measure=True)
    model.train()
    with torch.no_grad():
        model(input_ids=batch.input_ids_BT, labels=batch.labels_BT)
    assert all(layer.statistics == [] for layer in model.stack)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_a_forced_saturation_wakes_one_ghost_after_the_other() -> None:
    config = make_config("ghost", *QUICK)
    model = make_model("ghost", *QUICK)
    _, found = train(model, config, range(1, 21), loss=lambda step: 2.0)
    woken = {step: row["event/ghost_woken"] for step, row in enumerate(found, 1) if "event/ghost_woken" in row}
    # Windows end at 4, 8, ...; at 4 there is no window to compare with. The ramp of 4 steps ends after 3 more.
    assert woken == {8: [[1, 0], [1, 0]], 12: [[0, 1], [0, 1]]}
    assert all(layer.ghosts.states() == (ACTIVE, ACTIVE) for layer in model.stack)


def test_the_ramp_of_a_gradual_ghost() -> None:
    config = make_config("ghost", *QUICK)
    model = make_model("ghost", *QUICK)
    bank = model.stack[0].ghosts
    optimizer, _ = train(model, config, range(1, 8), loss=lambda step: 2.0)
    trace = [(bank.states()[0], bank.activations()[0])]
    for step in range(8, 13):
        train(model, config, range(step, step + 1), optimizer, loss=lambda step: 2.0)
        trace.append((bank.states()[0], bank.activations()[0]))
        assert bank.activation_G.tolist() == list(bank.activations())
    assert trace == [
        (DORMANT, 0.0), (ACTIVATING, 0.25), (ACTIVATING, 0.5), (ACTIVATING, 0.75), (ACTIVE, 1.0), (ACTIVE, 1.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        "model.ghost.activation_threshold=1.9",
        "model.ghost.plateau=-0.5",
        "model.ghost.min_step=1000",
        "model.ghost.patience=100",
    ],
)
def test_each_condition_alone_keeps_ghosts_asleep(change: str) -> None:
    model = make_model("ghost", *QUICK, change)
    train(model, make_config("ghost", *QUICK, change), range(1, 21), loss=lambda step: 2.0)
    assert all(layer.ghosts.states() == (DORMANT, DORMANT) for layer in model.stack)


def test_a_falling_loss_is_no_plateau() -> None:
    change = "model.ghost.plateau=0.01"
    config = make_config("ghost", *QUICK, change)
    falling, flat = (make_model("ghost", *QUICK, change) for _ in range(2))
    _, found = train(falling, config, range(1, 13), loss=lambda step: 2.0 * 0.99**step)
    train(flat, config, range(1, 13), loss=lambda step: 2.0)
    assert falling.stack[0].ghosts.states() == (DORMANT, DORMANT)
    assert flat.stack[0].ghosts.states()[0] != DORMANT
    assert float(found[-1]["ghost/loss_improvement"]) == pytest.approx(1 - 0.99**4, rel=1e-5)


def test_selective_wakes_the_most_saturated_layer_only() -> None:
    more = (*QUICK, "model.ghost.activation_schedule=selective")
    model = make_model("ghost", *more)
    _, found = train(model, make_config("ghost", *more), range(1, 9), loss=lambda step: 2.0)
    saturation = found[-1]["ghost/saturation"]
    woken = found[-1]["event/ghost_woken"]
    assert sum(map(sum, woken)) == 1
    assert woken[int(saturation.argmax())] == [1, 0]
    _, later = train(model, make_config("ghost", *more), range(9, 11), loss=lambda step: 2.0)
    assert all("event/ghost_woken" not in row for row in later)


def test_the_threshold_can_be_moved_while_training() -> None:
    more = (*QUICK, "model.ghost.activation_threshold=2.0")
    config, model = make_config("ghost", *more), make_model("ghost", *more)
    optimizer, _ = train(model, config, range(1, 13), loss=lambda step: 2.0)
    assert model.stack[0].ghosts.states() == (DORMANT, DORMANT)
    model.set_ghost_threshold(0.1)
    _, found = train(model, config, range(13, 17), optimizer, loss=lambda step: 2.0)
    assert float(found[-1]["ghost/threshold"]) == pytest.approx(0.1)
    assert model.stack[0].ghosts.states()[0] == ACTIVATING
    for wrong in (-0.1, 3.0, float("nan")):
        with pytest.raises(ConfigError, match="allowed are values from 0 to 2"):
            model.set_ghost_threshold(wrong)
    make_model("hgnn").set_ghost_threshold(0.5)


def test_saturation_is_diversity_times_what_is_unexplained() -> None:
    saturation = make_model("ghost").stack[0].ghosts.saturation
    assert saturation.diversity().item() == pytest.approx(1.0)
    saturation.update(torch.ones(4, 4), 1, 1.15, 2.3)  # collapsed: rank 1
    assert saturation.diversity().item() == pytest.approx(0.0, abs=1e-5)
    assert saturation.unexplained.item() == pytest.approx(0.5)
    saturation.update(torch.eye(4), 2, 2.3, 2.3)
    half = torch.full((4, 4), 0.5) + 0.5 * torch.eye(4)
    torch.testing.assert_close(saturation.gram_EE, half)
    share = torch.tensor([2.5, 0.5, 0.5, 0.5]) / 4
    rank = (-(share * share.log()).sum()).exp()
    assert saturation.value().item() == pytest.approx((rank.item() - 1) / 3 * 0.75, rel=1e-4)


@pytest.mark.parametrize("measure", ["explained", "fvu_grad", "legacy"])
def test_resuming_in_the_middle_of_a_ramp_is_bit_for_bit(measure: str) -> None:
    more = (*QUICK, f"model.ghost.saturation_measure={measure}")
    config = make_config("ghost", *more)
    straight = make_model("ghost", *more)
    train(straight, config, range(1, 15), loss=lambda step: 2.0)

    first = make_model("ghost", *more)
    optimizer, _ = train(first, config, range(1, 10), loss=lambda step: 2.0)
    assert first.stack[0].ghosts.states() == (ACTIVATING, DORMANT)
    second = stir(make_model("ghost", *more, "seed=5"))
    resumed = build_optimizer(second, config.train)
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    theirs = dict(second.named_parameters())
    for name, parameter in first.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            resumed.state[theirs[name]][key] = value.clone()
    train(second, config, range(10, 15), resumed, loss=lambda step: 2.0)
    for name, value in straight.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=0, atol=0)


def test_moments_begin_anew_at_waking() -> None:
    more = (*QUICK, "model.ghost.background_learning=true")
    config, model = make_config("ghost", *more), make_model("ghost", *more)
    ghost = model.stack[0].ghosts.expert(0)
    optimizer, _ = train(model, config, range(1, 8), loss=lambda step: 2.0)
    assert optimizer.state[ghost.w1_FD]["step"].item() == 7
    assert ghost.w2_DF.any()  # it has learned in its sleep
    train(model, config, range(8, 9), optimizer, loss=lambda step: 2.0)
    assert ghost.w1_FD not in optimizer.state
    assert not ghost.w2_DF.any()
    assert ghost.w1_FD.any()


def test_background_learning_predicts_the_gradient() -> None:
    """On one batch again and again the error falls below that of predicting nothing, which is 1."""
    more = ("model.ghost.background_learning=true", "train.ghost_learning_rate=0.01", "train.learning_rate=1e-9")
    config, model = make_config("ghost", *more), make_model("ghost", *more)
    optimizer = build_optimizer(model, config.train)
    bank, errors = model.stack[1].ghosts, []
    for step in range(1, 41):
        optimizer.zero_grad()
        set_rates(optimizer, 1.0)
        gradient: list[Any] = []

        def keep(_module: object, args: Any, output: Any, gradient: list[Any] = gradient) -> None:
            output[0].register_hook(lambda value: gradient.append((args, value)))

        hook = model.stack[1].register_forward_hook(keep)
        loss_terms(model, make_batch(), config.train)[0].backward()
        hook.remove()
        (x, context), grad = gradient[0]
        target = -grad.flatten(0, 1) / grad.square().mean().sqrt()
        with torch.no_grad():
            seen = torch.nn.functional.rms_norm(x, (16,), eps=1e-6)
            said = bank.deltas(x, seen, context, bank.quiet, (0, 1))
        errors.append((said - target).square().mean().item())
        optimizer.step()
        after_step(model, optimizer, config, StepFacts(step, 2.0, 2.3, 1.0))
    assert errors[0] == pytest.approx(1.0, abs=1e-3)
    assert errors[-1] < 0.8


def test_a_clone_begins_as_the_busiest_expert() -> None:
    more = (*QUICK, "model.ghost.initialization=clone")
    config, model = make_config("ghost", *more), make_model("ghost", *more)
    with torch.no_grad():
        for layer in model.stack:
            layer.feed_forward.w2_EDF[2] *= 20  # loud, so it is the busiest
    train(model, config, range(1, 9), loss=lambda step: 2.0)
    layer = model.stack[0]
    ghost, expert = layer.ghosts.expert(0), layer.feed_forward.w1_EFD[2]
    assert layer.ghosts.load_E.argmax() == 2
    correlation = torch.corrcoef(torch.stack((ghost.w1_FD.flatten(), expert.flatten())))[0, 1]
    assert correlation > 0.99
    assert not torch.equal(ghost.w1_FD, expert)


@pytest.mark.parametrize(
    ("coupling", "expected"), [("inverse", 0.01 * 0.75 * 0.5), ("complementary", 0.02 * 0.75 * 0.5), ("none", 0.0025)]
)
def test_the_learning_rate_of_a_ghost_follows_its_activation(coupling: str, expected: float) -> None:
    more = (f"model.ghost.lr_coupling={coupling}", "train.ghost_learning_rate=0.01", "train.learning_rate=0.02")
    config, model = make_config("ghost", *more), make_model("ghost", *more)
    optimizer = build_optimizer(model, config.train)
    asleep = set_rates(optimizer, 0.25)
    assert asleep["base"] == asleep["expert"] == 0.005
    assert asleep["ghost"] == (0.0025 if coupling == "none" else 0.0)
    wake_ghosts(model, 2)  # a = 1/2
    assert set_rates(optimizer, 0.25)["ghost"] == pytest.approx(expected)


def test_a_schedule_that_never_falls_is_refused_where_ghosts_live_on_its_fall() -> None:
    with pytest.raises(ConfigError, match="constant stays at its peak"):
        make_config("ghost", "train.schedule=constant")
    make_config("ghost", "train.schedule=constant", "model.ghost.lr_coupling=none")
    make_config("hgnn", "train.schedule=constant")
