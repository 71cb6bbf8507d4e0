"""What adapts itself between two optimizer steps: diversity losses find their weight, ghosts wake.

Called once after each optimizer step and never in evaluation. All state lies in model buffers (and the moments of the
optimizer), so a checkpoint carries it. Where several processes share a batch, statistics are over all of it, so all
decide alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from moe_hub.architectures import UNEXPLAINED_METRICS
from moe_hub.config import Config
from moe_hub.models.base import Layer
from moe_hub.models.ghost_experts import ACTIVATING, DORMANT, Ghosts
from moe_hub.models.language_model import LanguageModel


@dataclass(frozen=True)
class StepFacts:
    """What the trainer knows after a step.

    `step` optimizer steps are done; `task_loss` is that of this step and `unigram_entropy` that of the training
    targets, in nat; `rate_factor` is the present share of the peak learning rate. The run has `total_steps`: 0 is
    `train.max_steps`, and with `train.epochs` there can be fewer.
    """

    step: int
    task_loss: float
    unigram_entropy: float
    rate_factor: float
    total_steps: int = 0


def after_step(
    model: LanguageModel, optimizer: torch.optim.Optimizer, config: Config, facts: StepFacts
) -> dict[str, Any]:
    """Lets every layer adapt; returns metric values and events to log, by metric name."""
    statistics = [_mean(layer.statistics) for layer in model.stack]
    for layer in model.stack:
        layer.statistics.clear()
    found: dict[str, Any] = {}
    if any(layer.controller is not None for layer in model.stack):
        found |= _adapt_overlap(model.stack, statistics, config, facts)
    if any(layer.ghosts is not None for layer in model.stack):
        found |= _adapt_ghosts(model.stack, statistics, optimizer, config, facts)
    return found


def forget(model: LanguageModel) -> None:
    """Drops what the passes of a step left for `after_step`, where the step is not applied."""
    for layer in model.stack:
        layer.statistics.clear()
        if layer.ghosts is not None:
            layer.ghosts.forget()


def _adapt_overlap(
    layers: Sequence[Layer], statistics: Sequence[Tensor | None], config: Config, facts: StepFacts
) -> dict[str, Any]:
    controllers = [layer.controller for layer in layers if layer.controller is not None]
    progress = min(1.0, facts.step / (facts.total_steps or config.train.max_steps))
    for controller, overlap in zip(controllers, statistics, strict=True):
        if overlap is not None:
            controller.update(overlap, facts.step, progress)
    return {
        "orthogonal/weight": torch.stack([controller.weight * controller.multiplier for controller in controllers]),
        "orthogonal/overlap": torch.stack([controller.average for controller in controllers]).clone(),
    }


def _adapt_ghosts(
    layers: Sequence[Layer],
    statistics: Sequence[Tensor | None],
    optimizer: torch.optim.Optimizer,
    config: Config,
    facts: StepFacts,
) -> dict[str, Any]:
    banks = [layer.ghosts for layer in layers if layer.ghosts is not None]
    for ghosts, gram_EE, parts_2 in zip(banks, statistics, _own_unexplained(banks), strict=True):
        if ghosts.background_gradients:
            _learn_in_background(ghosts, optimizer, config, facts)
        ghosts.follow_load()
        ghosts.saturation.update(gram_EE, facts.step, facts.task_loss, facts.unigram_entropy, parts_2)
        ghosts.advance()
    woken = _wake_where_ripe(layers, optimizer, config, facts.step)
    found = {
        "ghost/saturation": torch.stack([ghosts.saturation.value() for ghosts in banks]),
        "ghost/diversity": torch.stack([ghosts.saturation.diversity() for ghosts in banks]),
        "ghost/unexplained": banks[0].saturation.unexplained.clone(),
        "ghost/loss_improvement": banks[0].saturation.improvement.clone(),
        "ghost/threshold": banks[0].threshold.clone(),
        "ghost/activation": torch.stack([ghosts.activation_G for ghosts in banks]),
        "ghost/state": torch.stack([ghosts.state_G for ghosts in banks]),
    }
    if (measure := config.model.ghost.saturation_measure) != "explained":
        found[UNEXPLAINED_METRICS[measure]] = torch.stack([ghosts.saturation.own_unexplained for ghosts in banks])
    return found | ({"event/ghost_woken": woken} if any(map(any, woken)) else {})


def _own_unexplained(banks: Sequence[Ghosts]) -> Sequence[Tensor | None]:
    """Numerator and denominator of what is unexplained in each layer, over all processes; None where it is not used."""
    if banks[0].saturation.measure == "explained":
        return [None] * len(banks)
    return list(_summed(torch.stack([ghosts.saturation.take_parts() for ghosts in banks])))


def _wake_where_ripe(
    layers: Sequence[Layer], optimizer: torch.optim.Optimizer, config: Config, step: int
) -> list[list[int]]:
    """Wakes at most one ghost in each ripe layer with none on its way; returns 1 for each that was woken.

    `selective` wakes one in the most saturated ripe layer alone, and none while any is on its way.
    """
    banks = [layer.ghosts for layer in layers if layer.ghosts is not None]
    ripe = [ghosts for ghosts in banks if ghosts.saturation.judge(step, ghosts.threshold)]
    ripe = [ghosts for ghosts in ripe if DORMANT in ghosts.states() and ACTIVATING not in ghosts.states()]
    if config.model.ghost.activation_schedule == "selective" and ripe:
        busy = any(ACTIVATING in ghosts.states() for ghosts in banks)
        ripe = [] if busy else [max(ripe, key=lambda ghosts: float(ghosts.saturation.value()))]
    woken = [[0] * len(ghosts.states()) for ghosts in banks]
    for layer, ghosts, row in zip(layers, banks, woken, strict=True):
        if ghosts in ripe:
            ghost = ghosts.states().index(DORMANT)
            _prepare(layer, ghosts, ghost, optimizer, config)
            ghosts.wake(ghost)
            row[ghost] = 1
    return woken


def _prepare(layer: Layer, ghosts: Ghosts, ghost: int, optimizer: torch.optim.Optimizer, config: Config) -> None:
    """Silent, or a copy of the busiest expert; in both cases without moments from before."""
    expert = ghosts.expert(ghost)
    expert.silence()
    if config.model.ghost.initialization == "clone":
        expert.become(layer.busiest_expert())
    for parameter in expert.parameters():
        optimizer.state.pop(parameter, None)
    ghosts.saturation.ripe_windows.zero_()


@torch.no_grad()
def _learn_in_background(ghosts: Ghosts, optimizer: torch.optim.Optimizer, config: Config, facts: StepFacts) -> None:
    """One step of the optimizer for dormant ghosts alone, at the ghosts' peak rate times the common factor."""
    gradients = {weight: _summed(gradient) for weight, gradient in ghosts.background_gradients.items()}
    ghosts.background_gradients.clear()
    held: dict[Tensor, Tensor | None] = {}
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            held[parameter], parameter.grad = parameter.grad, gradients.get(parameter)
        group["lr"] = config.train.ghost_learning_rate * facts.rate_factor
    optimizer.step()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    for parameter, gradient in held.items():
        parameter.grad = gradient


def _mean(statistics: Sequence[Tensor]) -> Tensor | None:
    return torch.stack(list(statistics)).mean(0) if statistics else None


def _summed(gradient: Tensor) -> Tensor:
    """The gradient, or sum, of the whole batch: each process has that of its own tokens."""
    if dist.is_initialized():
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
    return gradient
