"""Parameter groups, learning rates and their schedules.

Every trainable parameter is in exactly one of the groups
    rotation  the angles theta
    expert    attention and feed-forward weights of the experts
    base      everything else: embedding (and head), router, coupling
In geometric mode each has its own learning rate; in standard mode all use `learning_rate`.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from moe_hub.config import TrainConfig

GROUPS = ("rotation", "expert", "base")
UNDECAYED = ("theta_EP", "rho_H")  # angles and edge weights: decay would pull them towards a meaning of its own


def group_of(name: str) -> str:
    """The group of a parameter, by its dotted name."""
    if name.endswith("theta_EP"):
        return "rotation"
    return "expert" if ".attention." in name or ".feed_forward." in name else "base"


def peak_rates(config: TrainConfig) -> dict[str, float]:
    """Learning rate of each group after the warm-up."""
    if config.mode == "standard":
        return dict.fromkeys(GROUPS, config.learning_rate)
    return {
        "rotation": config.geometric_learning_rate,
        "expert": config.expert_learning_rate,
        "base": config.learning_rate,
    }


def named_groups(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Trainable parameters by group; groups without any are left out."""
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(group_of(name), []).append(parameter)
    return groups


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over (group, with or without weight decay); each torch group carries its `name` and `peak`."""
    rates = peak_rates(config)
    split: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decayed = parameter.ndim >= 2 and not name.endswith(UNDECAYED)
            split.setdefault((group_of(name), decayed), []).append(parameter)
    groups = [
        {
            "params": parameters,
            "name": group,
            "peak": rates[group],
            "lr": rates[group],
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (group, decayed), parameters in split.items()
    ]
    return torch.optim.AdamW(groups, betas=(0.9, config.beta2), fused=True)


def rate_factor(config: TrainConfig, step: int, total: int) -> float:
    """Share of the peak learning rate at step 0 .. total - 1.

    Linear warm-up; then `constant`, `linear` or `cosine` down to `min_lr_ratio`, or `wsd`: flat to 80 % of the
    steps, then linear (warm-up, stable, decay; Hu et al. 2024, arXiv 2404.06395).
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
    """Sets every group to its peak x factor and returns the rates by name."""
    rates: dict[str, float] = {}
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
        rates[group["name"]] = group["lr"]
    return rates


def gradient_norms(groups: dict[str, list[nn.Parameter]]) -> dict[str, float]:
    """Euclidean norm of the gradient of each group."""
    norms: dict[str, float] = {}
    for name, parameters in groups.items():
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norms[name] = float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0
    return norms
