"""Parameter groups, their rates, weight decay, and Muon on stacks of matrices."""

from __future__ import annotations

import pytest
import torch

from moe_hub.config import Config, load_config
from moe_hub.models import build_model
from moe_hub.models.language_model import LanguageModel
from moe_hub.train.muon import MuonAndAdamW
from moe_hub.train.optimization import build_optimizer, gradient_norms, group_of, named_groups, rate_factor, set_rates

SMALL = ["model.d_model=16", "model.num_heads=2", "model.max_seq_len=16"]


def make(*overrides: str) -> tuple[Config, LanguageModel]:
    config = load_config(overrides=[*SMALL, *overrides])
    return config, build_model(config, vocab_size=11)


def backward(model: LanguageModel, seed: int = 0) -> None:
    ids = torch.randint(0, 11, (2, 12), generator=torch.Generator().manual_seed(seed))
    model.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()


def test_groups_of_parameters() -> None:
    _, model = make("model.architecture=geometric", "model.geometric.ghosts=true")
    groups = {name: group_of(name) for name, _ in model.named_parameters()}
    assert groups["embedding.weight"] == groups["layers.0.gate.weight_ED"] == "base"
    assert groups["layers.0.coupling.0.w1_DR"] == groups["layers.0.coupling.0.rho_H"] == "base"
    assert groups["layers.1.attention.qkv_EOD"] == groups["layers.1.feed_forward.w2_EDF"] == "expert"
    assert groups["layers.1.rotation.theta"] == "rotation"
    assert groups["layers.1.ghosts.experts.0.rotation.theta"] == groups["layers.0.coupling.0.ghost_rho"] == "ghost"
    for architecture in ("topk", "dense"):
        _, other = make(f"model.architecture={architecture}", "model.scope=ffn")
        names = {name: group_of(name) for name, _ in other.named_parameters()}
        assert names["layers.0.shared_attention.qkv_EOD"] == "base"
        assert names["layers.0.feed_forward.w1_EFD"] == "expert"
        assert names.get("layers.0.feed_forward.router_ED", "base") == "base"


def test_rates_of_the_modes() -> None:
    rates = ["train.learning_rate=0.3", "train.geometric_learning_rate=0.2", "train.expert_learning_rate=0.1"]
    config, model = make("train.mode=geometric", *rates)
    assert set_rates(build_optimizer(model, config.train), 0.5) == {"base": 0.15, "expert": 0.05, "rotation": 0.1}
    config, model = make(*rates)
    assert set_rates(build_optimizer(model, config.train), 1.0) == {"base": 0.3, "expert": 0.3, "rotation": 0.3}


@pytest.mark.parametrize("optimizer_name", ["adamw", "muon"])
def test_only_matrices_decay(optimizer_name: str) -> None:
    """With gradients of zero a step is the decay alone."""
    config, model = make(
        "model.architecture=geometric", "train.weight_decay=0.5", f"train.optimizer={optimizer_name}",
        "model.geometric.rotation_type=householder", "train.learning_rate=0.1",
    )  # fmt: skip
    optimizer = build_optimizer(model, config.train)
    set_rates(optimizer, 1.0)
    before = {name: p.detach().clone().fill_(1.0) for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    still = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
    assert still == {n for n, p in model.named_parameters() if n.endswith(("theta", "rho_H"))}
    assert model.embedding.weight[0, 0].item() == pytest.approx(0.95)


def test_a_muon_step_is_torchs_on_each_matrix() -> None:
    """Three steps; each expert's q, k, v, output and feed-forward matrices on their own, and AdamW on the rest."""
    settings = ("model.architecture=hgnn", "train.learning_rate=0.02", "train.weight_decay=0.1")
    config, model = make(*settings, "train.optimizer=muon")
    optimizer = build_optimizer(model, config.train)
    assert isinstance(optimizer, MuonAndAdamW)
    _, twin = make(*settings)
    stacks = {n: p for n, p in twin.named_parameters() if ".attention." in n or ".feed_forward." in n}
    pieces: dict[str, list[torch.nn.Parameter]] = {}
    for name, stack in stacks.items():
        matrices = [part for expert in stack.detach() for part in expert.chunk(3 if "qkv" in name else 1)]
        pieces[name] = [torch.nn.Parameter(matrix.clone()) for matrix in matrices]
    muon = torch.optim.Muon(
        [piece for parts in pieces.values() for piece in parts], lr=0.02, weight_decay=0.1,
        adjust_lr_fn="match_rms_adamw",
    )  # fmt: skip
    for step in range(3):
        backward(model, step)
        gradients = dict(model.named_parameters())
        for name, parts in pieces.items():
            grads = [g for expert in gradients[name].grad for g in expert.chunk(3 if "qkv" in name else 1)]
            for part, grad in zip(parts, grads, strict=True):
                part.grad = grad.clone()
        set_rates(optimizer, 1.0)
        optimizer.step()
        muon.step()
        for name, parts in pieces.items():
            expected = torch.cat([part.detach() for part in parts]).view_as(gradients[name])
            torch.testing.assert_close(gradients[name].detach(), expected, rtol=0, atol=0)
    assert "exp_avg" in optimizer.state[model.embedding.weight]
    assert "momentum_buffer" in optimizer.state[model.stack[0].feed_forward.w1_EFD]


def test_muon_goes_on_from_moments_that_were_saved_by_parameter() -> None:
    """As the checkpoint keeps them: tensors by the name of the parameter, put into a new optimizer."""
    settings = ("model.architecture=hgnn", "train.optimizer=muon")
    config, model = make(*settings)
    optimizer = build_optimizer(model, config.train)
    for step in range(4):
        backward(model, step)
        optimizer.step()
        if step == 1:
            weights = {name: value.clone() for name, value in model.state_dict().items()}
            moments = {
                (name, key): value.clone()
                for name, parameter in model.named_parameters()
                for key, value in optimizer.state.get(parameter, {}).items()
            }
    _, other = make(*settings, "seed=4")
    resumed = build_optimizer(other, config.train)
    other.load_state_dict(weights)
    parameters = dict(other.named_parameters())
    for (name, key), value in moments.items():
        resumed.state[parameters[name]][key] = value
    for step in (2, 3):
        backward(other, step)
        resumed.step()
    assert all(torch.equal(p, parameters[name]) for name, p in model.named_parameters())


def test_norms_of_the_groups() -> None:
    _, model = make("model.architecture=geometric")
    backward(model)
    groups = named_groups(model)
    norms = gradient_norms(groups)
    assert set(norms) == {"base", "expert", "rotation"}
    total = sum(norm**2 for norm in norms.values()) ** 0.5
    everything = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
    assert total == pytest.approx(everything, rel=1e-5)


def test_the_schedules() -> None:
    def factors(schedule: str, *more: str) -> list[float]:
        config = load_config(
            overrides=[f"train.schedule={schedule}", "train.warmup_steps=2", "train.min_lr_ratio=0.1", *more]
        )
        return [rate_factor(config.train, step, 12) for step in range(12)]

    assert factors("constant") == [0.5] + [1.0] * 11
    linear = factors("linear")
    assert linear[2] == 1.0
    assert linear[-1] == pytest.approx(0.1)
    assert linear[5] - linear[6] == pytest.approx(0.1)
    cosine = factors("cosine")
    assert cosine[2] == 1.0
    assert cosine[-1] == pytest.approx(0.1)
    wsd = factors("wsd")
    assert wsd[:9] == [0.5] + [1.0] * 8
    assert wsd[-1] == pytest.approx(0.1)
    assert factors("linear", "train.warmup_steps=0")[0] == 1.0
