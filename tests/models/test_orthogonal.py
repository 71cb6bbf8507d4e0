"""The diversity loss, its null value, and the controller of its weight."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from variants import make_batch, make_config, make_model, stir

from moe_hub.models import measures
from moe_hub.models.orthogonal import OverlapController, schedule_multiplier
from moe_hub.train.adaptation import StepFacts, after_step
from moe_hub.train.objective import loss_terms
from moe_hub.train.optimization import build_optimizer, set_rates

NOW = "model.orthogonal.warmup_steps=0"


def controller(*more: str) -> OverlapController:
    return OverlapController(make_config("orthogonal", *more).model.orthogonal, 16)


def test_overlap_of_orthogonal_and_of_equal_deltas() -> None:
    eye = torch.eye(4).unsqueeze(1).expand(4, 5, 4)
    assert measures.overlap(eye).item() == 0.0
    same = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1)
    assert measures.overlap(same).item() == pytest.approx(1.0)
    assert measures.normalised_overlap(same).item() == pytest.approx(1.0)
    assert measures.overlap(-same * torch.tensor([1.0, -1, 1]).view(3, 1, 1)).item() == pytest.approx(1.0)


@given(seed=st.integers(0, 500), scale=st.floats(0.01, 100.0))
@settings(max_examples=25, deadline=None)
def test_overlap_is_bounded_and_blind_to_length(seed: int, scale: float) -> None:
    delta = torch.randn(4, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    value = measures.overlap(delta)
    assert 0 <= value.item() <= 1
    torch.testing.assert_close(measures.overlap(scale * delta), value, rtol=1e-12, atol=0)


def test_independent_deltas_overlap_by_one_over_the_width() -> None:
    draws = torch.randn(8, 4000, 64, generator=torch.Generator().manual_seed(0))
    pairs = measures.cosine_gram(draws).square()[:, *torch.triu_indices(8, 8, 1)].mean(1)
    sigma = pairs.std() / math.sqrt(len(pairs))
    assert abs(pairs.mean() - 1 / 64) < 3 * sigma
    assert abs(measures.normalised_overlap(draws)) < 1e-3


def by_loops(delta_END: torch.Tensor) -> float:
    """||G - I||_F^2 / (E (E - 1)), entry by entry."""
    rows = delta_END.double().numpy()
    experts, tokens = rows.shape[:2]
    total = 0.0
    for i in range(experts):
        for j in range(experts):
            cosines = [
                (rows[i, n] @ rows[j, n]) / math.sqrt((rows[i, n] @ rows[i, n]) * (rows[j, n] @ rows[j, n]))
                for n in range(tokens)
            ]
            total += (sum(cosines) / tokens - (i == j)) ** 2
    return total / (experts * (experts - 1))


@pytest.mark.parametrize("shape", [(2, 1, 3), (4, 7, 5), (3, 40, 16)])
def test_gram_distance_is_that_of_loops(shape: tuple[int, int, int]) -> None:
    delta = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.3
    value = measures.gram_distance(delta)
    assert value.item() == pytest.approx(by_loops(delta), rel=1e-12)
    torch.testing.assert_close(measures.gram_distance(-7 * delta), value, rtol=1e-12, atol=0)
    assert 0 < value.item() <= measures.overlap(delta).item() <= 1  # the square of a mean, and the mean of squares


def test_gram_distance_at_its_ends_and_by_hand() -> None:
    eye = torch.eye(4).unsqueeze(1).expand(4, 5, 4)
    assert measures.gram_distance(eye).item() == 0.0
    same = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1)
    assert measures.gram_distance(same).item() == pytest.approx(1.0)
    # Two tokens with cosines 1 and -1 cancel, with 1 and 0 give 1/4; the mean squared cosine is 1 and 1/2.
    for second, expected, squares in ((-1.0, 0.0, 1.0), (0.0, 0.25, 0.5)):
        other = torch.tensor([second, 0.0 if second else 1.0])
        pair = torch.stack((torch.tensor([[1.0, 0], [1.0, 0]]), torch.stack((torch.tensor([2.0, 0]), other))))
        assert measures.gram_distance(pair).item() == pytest.approx(expected, abs=1e-7)
        assert measures.overlap(pair).item() == pytest.approx(squares)


def test_independent_deltas_are_at_distance_zero() -> None:
    """1 / (N D) within 3 standard errors, which is 0 against the 1/D of the mean squared cosine."""
    draws = torch.randn(200, 4, 100, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = torch.stack([measures.gram_distance(one) for one in draws])
    assert abs(found.mean() - 1 / (100 * 16)) < 3 * found.std() / math.sqrt(len(found))


def test_gram_identity_has_no_tolerated_part_and_the_controller_follows_it() -> None:
    one = controller(NOW, "model.orthogonal.loss=gram_identity", "model.orthogonal.target_overlap=0.5")
    one.multiplier.fill_(1.0)
    assert one.null == 0.0
    assert one.loss(torch.tensor(0.2)).item() == pytest.approx(0.1 * 0.2)
    assert controller(NOW, "model.orthogonal.target_overlap=0.5").loss(torch.tensor(0.2)).item() == 0.0
    model = make_model("orthogonal", "model.orthogonal.loss=gram_identity")
    config = make_config("orthogonal", "model.orthogonal.loss=gram_identity")
    _, terms, _ = loss_terms(model, make_batch(), config.train)
    seen = torch.stack([layer.statistics[0] for layer in model.stack])
    assert terms["orthogonality"] == pytest.approx(seen.mean().item(), rel=1e-6)
    weights = [layer.controller.weight.item() for layer in model.stack]
    after_step(model, build_optimizer(model, config.train), config, StepFacts(1, 2.0, 2.3, 1.0))
    for layer, before, value in zip(model.stack, weights, seen.tolist(), strict=True):
        push = math.exp(0.01 * (value - 2 / 16) / (2 / 16))
        assert layer.controller.weight.item() == pytest.approx(before * push, rel=1e-6)
        assert layer.controller.average.item() == pytest.approx(value)


def test_what_the_layer_measures_is_the_loss_of_its_own_deltas() -> None:
    """The statistic of a forward pass against loops over the deltas that the layer computed."""
    for target in ("activations", "weights"):
        model = make_model("orthogonal", "model.orthogonal.loss=gram_identity", f"model.orthogonal.target={target}")
        layer = model.stack[0]
        kept = []
        hook = layer.register_forward_hook(lambda _m, _a, out, kept=kept: kept.append(out[1].delta_END.detach()))
        batch = make_batch()
        model(input_ids=batch.input_ids_BT, labels=batch.labels_BT)
        hook.remove()
        vectors = kept[0] if target == "activations" else layer.feed_forward.w1_EFD.detach()
        assert layer.statistics[0].item() == pytest.approx(by_loops(vectors), rel=1e-5)


def test_the_controller_pushes_up_above_the_target_and_down_below() -> None:
    up, down = controller(NOW), controller(NOW)
    for step in range(1, 20):
        before = up.weight.item(), down.weight.item()
        up.update(torch.tensor(0.5), step, 0.0)
        down.update(torch.tensor(0.0), step, 0.0)
        assert up.weight.item() > before[0]
        assert down.weight.item() < before[1]
    assert up.average.item() == pytest.approx(0.5)  # the first value replaces what stood there before any
    expected = 0.1 * math.exp(0.01 * 19 * (0.5 - 2 / 16) / (2 / 16))
    assert up.weight.item() == pytest.approx(expected, rel=1e-5)


def test_the_weight_stays_within_its_bounds() -> None:
    for overlap, bound in ((1.0, 0.3), (0.0, 1e-3)):
        one = controller(NOW, "model.orthogonal.controller_gain=1.0")
        for step in range(1, 100):
            one.update(torch.tensor(overlap), step, 0.0)
        assert one.weight.item() == pytest.approx(bound)


def test_the_average_decays_as_configured() -> None:
    one = controller(NOW, "model.orthogonal.average_decay=0.9")
    for step in range(1, 101):
        one.update(torch.tensor(0.2), step, 0.0)
    one.update(torch.tensor(1.0), 101, 0.0)
    assert one.average.item() == pytest.approx(0.9 * 0.2 + 0.1)


def test_the_loss_warms_up_and_follows_its_schedule() -> None:
    one = controller("model.orthogonal.warmup_steps=4", "model.orthogonal.controller_gain=0")
    losses = [one.loss(torch.tensor(0.625)).item()]
    for step in range(1, 6):
        one.update(torch.tensor(0.625), step, 0.0)
        losses.append(one.loss(torch.tensor(0.625)).item())
    torch.testing.assert_close(losses, [0.1 * 0.5 * share for share in (0, 0.25, 0.5, 0.75, 1.0, 1.0)])
    assert one.loss(torch.tensor(0.1)).item() == 0.0  # under the target of 2 / 16
    halves = {schedule: schedule_multiplier(schedule, 0.5) for schedule in ("constant", "cosine", "linear", "step")}
    assert halves == {"constant": 1.0, "cosine": pytest.approx(0.5), "linear": 0.5, "step": 0.5}
    assert schedule_multiplier("exponential", 1.0) == pytest.approx(math.exp(-5))
    assert all(0 <= schedule_multiplier(s, p / 10) <= 1 for s in (*halves, "exponential") for p in range(11))


@pytest.mark.parametrize("loss", ["overlap", "gram_identity"])
@pytest.mark.parametrize("target", ["activations", "weights"])
def test_without_weight_it_is_hgnn_bit_for_bit(target: str, loss: str) -> None:
    """Three steps of training from the same seed."""
    off = (
        "model.orthogonal.initial_weight=0", "model.orthogonal.min_weight=0",
        f"model.orthogonal.target={target}", f"model.orthogonal.loss={loss}",
    )  # fmt: skip
    trained = []
    for variant, more in (("hgnn", ()), ("orthogonal", off)):
        config, model = make_config(variant, *more), make_model(variant, *more)
        optimizer = build_optimizer(model, config.train)
        for step in range(1, 4):
            optimizer.zero_grad()
            loss_terms(model, make_batch(seed=step), config.train)[0].backward()
            optimizer.step()
            after_step(model, optimizer, config, StepFacts(step, 2.0, 2.3, 1.0))
        trained.append(dict(model.named_parameters()))
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


@pytest.mark.parametrize("loss", ["overlap", "gram_identity"])
@pytest.mark.parametrize("target", ["activations", "weights"])
def test_the_loss_drives_experts_apart(target: str, loss: str) -> None:
    """45 steps from experts that are copies of one another."""
    more = (
        f"model.orthogonal.target={target}", f"model.orthogonal.loss={loss}", NOW, "model.orthogonal.initial_weight=10",
        "model.orthogonal.max_weight=10", "train.learning_rate=0.005",
    )  # fmt: skip
    config, model = make_config("orthogonal", *more), stir(make_model("orthogonal", *more))
    with torch.no_grad():
        for layer in model.stack:
            for weight in (*layer.attention.parameters(), *layer.feed_forward.parameters()):
                weight.copy_(weight[:1] + 0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    optimizer = build_optimizer(model, config.train)
    overlap = []
    for step in range(1, 46):
        set_rates(optimizer, 1.0)
        optimizer.zero_grad()
        total, terms, _ = loss_terms(model, make_batch(4, 16, seed=step), config.train)
        total.backward()
        optimizer.step()
        after_step(model, optimizer, config, StepFacts(step, 2.0, 2.3, 1.0))
        overlap.append(terms["orthogonality"].item())
    assert overlap[0] > 0.7
    assert overlap[-1] < 0.35


def test_deeper_layers_weigh_less() -> None:
    model = make_model("orthogonal", "model.orthogonal.depth_scale=0.5")
    assert [layer.depth_factor for layer in model.stack] == [1.0, 0.5]


def test_the_state_is_saved_and_evaluation_does_not_move_it() -> None:
    config, model = make_config("orthogonal"), make_model("orthogonal")
    optimizer = build_optimizer(model, config.train)
    loss_terms(model, make_batch(), config.train)
    found = after_step(model, optimizer, config, StepFacts(1, 2.0, 2.3, 1.0))
    assert found["orthogonal/weight"].shape == found["orthogonal/overlap"].shape == (2,)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert state["layers.0.controller.average"] != 1 / 16
    model.eval()
    batch = make_batch()
    model(input_ids=batch.input_ids_BT, labels=batch.labels_BT)
    assert all(layer.statistics == [] for layer in model.stack)
    other = make_model("orthogonal", "seed=3")
    other.load_state_dict(state)
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())


def test_accumulated_batches_count_as_one_step() -> None:
    config, model = make_config("orthogonal"), make_model("orthogonal")
    optimizer = build_optimizer(model, config.train)
    for seed in range(3):
        loss_terms(model, make_batch(seed=seed), config.train)
    kept = [torch.stack(layer.statistics).mean() for layer in model.stack]
    found = after_step(model, optimizer, config, StepFacts(1, 2.0, 2.3, 1.0))
    torch.testing.assert_close(found["orthogonal/overlap"], torch.stack(kept))
