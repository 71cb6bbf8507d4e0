"""Parameter groups, learning rates and their schedules.

Every trainable parameter is in exactly one of the groups
    rotation  the parameters of rotations
    expert    attention and feed-forward weights of the experts
    ghost     everything of ghost experts, one torch group for each ghost
    base      everything else: embedding (and head), router, coupling
In geometric mode rotations and experts have their own learning rates; in standard mode they use `learning_rate`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from moe_hub.config import TrainConfig
from moe_hub.models.ghost_experts import Ghosts
from moe_hub.models.language_model import LanguageModel
from moe_hub.train.muon import MuonAndAdamW
from moe_hub.train.parallel.strategy import whole

GROUPS = ("rotation", "expert", "ghost", "base")
RATES = "ghost_rates"  # attribute of the optimizer: rates of the groups that have their own, by number
UNDECAYED = ("theta", "edge_logit", "ghost_rho")  # decay would pull them towards a meaning of its own
GATE_ROW = "gate_D"  # a ghost's row of the gate: those of the experts are a matrix, and decay


def group_of(name: str) -> str:
    """The group of a parameter, by its dotted name."""
    if ".ghosts." in name or name.endswith(".ghost_rho"):
        return "ghost"
    if ".rotation." in name:
        return "rotation"
    is_router = name.endswith(".router_ED")
    return "expert" if (".attention." in name or ".feed_forward." in name) and not is_router else "base"


def peak_rates(config: TrainConfig) -> dict[str, float]:
    """Learning rate of each group after the warm-up."""
    rates = dict.fromkeys(GROUPS, config.learning_rate)
    rates["ghost"] = config.ghost_learning_rate
    if config.mode == "geometric":
        rates["rotation"], rates["expert"] = config.geometric_learning_rate, config.expert_learning_rate
    return rates


def named_groups(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Trainable parameters by group; groups without any are left out."""
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(group_of(name), []).append(parameter)
    return groups


@dataclass(frozen=True)
class GhostRate:
    """Learning rate of a ghost with activation a, where all others stand at `factor` of their peak.

    inverse: peak (1 - factor) a; complementary: what the common rate has fallen by, times a; none: peak factor.
    """

    ghosts: Ghosts
    ghost: int | None  # None: what the ghosts of a layer share
    coupling: str
    peak: float
    common_peak: float

    def __call__(self, factor: float) -> float:
        activations = self.ghosts.activations()
        activation = max(activations) if self.ghost is None else activations[self.ghost]
        if self.coupling == "none":
            return self.peak * factor
        return (self.peak if self.coupling == "inverse" else self.common_peak) * (1 - factor) * activation


def build_optimizer(model: LanguageModel, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW, or Muon and AdamW, over the groups; each torch group carries its `name` and `peak`.

    Matrices decay; gains, biases, angles and edge weights do not.
    """
    rates = peak_rates(config)
    split: dict[tuple[str, bool, tuple[int, int | None] | None, int], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decayed = (parameter.ndim >= 2 or name.endswith(GATE_ROW)) and not name.endswith(UNDECAYED)
            key = (group_of(name), decayed, _ghost_of(name), _muon_parts(name, parameter, config))
            split.setdefault(key, []).append(parameter)
    made: list[tuple[int, dict[str, Any], GhostRate | None]] = []
    for (group, decayed, ghost, parts), parameters in split.items():
        decay = config.weight_decay if decayed else 0.0
        values = {"params": parameters, "name": group, "peak": rates[group], "lr": rates[group], "weight_decay": decay}
        made.append((parts, values | ({"parts": parts} if parts else {}), _ghost_rate(model, config, ghost)))
    made.sort(key=lambda entry: entry[0] > 0)  # those of Muon last, as it orders them
    betas = (0.9, config.beta2)
    adamw = [values for parts, values, _ in made if not parts]
    muon = [values for parts, values, _ in made if parts]
    if muon:
        optimizer: torch.optim.Optimizer = MuonAndAdamW(adamw, muon, betas)
    else:
        optimizer = torch.optim.AdamW(adamw, betas=betas, fused=True)
    # Not in the groups: what stands there is saved, and a rate belongs to the model's present state.
    setattr(optimizer, RATES, {number: rate for number, (_, _, rate) in enumerate(made) if rate is not None})
    return optimizer


def _ghost_of(name: str) -> tuple[int, int | None] | None:
    """(layer, ghost) of a ghost's parameter; no ghost for what those of a layer share."""
    if group_of(name) != "ghost":
        return None
    parts = name.split(".")
    layer = int(parts[parts.index("layers") + 1])
    return layer, int(parts[parts.index("experts") + 1]) if "experts" in parts else None


def _ghost_rate(model: LanguageModel, config: TrainConfig, ghost: tuple[int, int | None] | None) -> GhostRate | None:
    if ghost is None:
        return None
    layer, number = ghost
    ghosts = model.stack[layer].ghosts
    assert ghosts is not None
    common = config.expert_learning_rate if config.mode == "geometric" else config.learning_rate
    return GhostRate(ghosts, number, model.settings.ghost.lr_coupling, config.ghost_learning_rate, common)


def _muon_parts(name: str, parameter: nn.Parameter, config: TrainConfig) -> int:
    """Into how many matrices Muon splits each expert's weight; 0 where AdamW has the parameter."""
    if config.optimizer != "muon" or parameter.ndim != 3 or group_of(name) == "ghost":
        return 0
    if not any(part in name for part in (".attention.", ".shared_attention.", ".feed_forward.")):
        return 0
    return 3 if name.endswith(".qkv_EOD") else 1


def rate_factor(config: TrainConfig, step: int, total: int) -> float:
    """Share of the peak learning rate at step 0 .. total - 1.

    Linear warm-up; then `constant`, `linear` or `cosine` down to `min_lr_ratio`, or `wsd`: flat for 80 % of
    the steps after the warm-up, then linear (warm-up, stable, decay; Hu et al. 2024, arXiv 2404.06395).
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    progress = min(1.0, (step - config.warmup_steps) / max(1, total - 1 - config.warmup_steps))
    if config.schedule == "wsd":
        progress = max(0.0, (progress - 0.8) / 0.2)
    fall = (1 - math.cos(math.pi * progress)) / 2 if config.schedule == "cosine" else progress
    return 1.0 - (1.0 - config.min_lr_ratio) * fall


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> dict[str, float]:
    """Sets every group to its peak x factor, or a ghost to its own rate, and returns the rates by name.

    Of several ghosts the largest rate is returned.
    """
    gains: dict[int, GhostRate] = getattr(optimizer, RATES, {})
    rates: dict[str, float] = {}
    for number, group in enumerate(optimizer.param_groups):
        group["lr"] = gains[number](factor) if number in gains else group["peak"] * factor
        rates[group["name"]] = max(rates.get(group["name"], 0.0), group["lr"])
    return rates


def gradient_norms(groups: dict[str, list[nn.Parameter]]) -> dict[str, float]:
    """Euclidean norm of the gradient of each group."""
    norms: dict[str, float] = {}
    for name, parameters in groups.items():
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norms[name] = float(whole(torch.nn.utils.get_total_norm(gradients))) if gradients else 0.0
    return norms
