"""One training iteration of each arm of the shakespeare part: same data in the same order, same recipe.

Legend: B batch, T time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.characters import Characters
from benchmarks.nanogpt import Recipe, ReferenceGPT, reference_optimizer
from benchmarks.timing import Built
from benchmarks.training_step import Shape, model_of, optimize
from moe_hub.train.device import choose_precision
from moe_hub.train.objective import autocast
from moe_hub.train.optimization import build_optimizer, rate_factor, set_rates

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Arm:
    """A model, how it gives logits (B, T, V) for ids (B, T), and how it is optimised."""

    model: nn.Module
    logits: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    set_rate: Callable[[int], object]
    precision: str


def build_reference(text: str, seed: int, recipe: Recipe) -> Built:
    """The nanoGPT equivalent, in fp32 as published for a CPU."""
    characters = Characters.read(Path(text))
    torch.manual_seed(seed)
    model = ReferenceGPT(recipe, characters.vocab)
    optimizer = reference_optimizer(model, recipe)

    def set_rate(iteration: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(iteration)

    return _built(Arm(model, model, optimizer, set_rate, "fp32"), characters, seed, recipe)


def build_arm(text: str, seed: int, recipe: Recipe, architecture: str, overrides: dict[str, Any]) -> Built:
    """One of this project's models under the same recipe, in bf16 where the machine has it."""
    characters = Characters.read(Path(text))
    shape = Shape(recipe.d_model, recipe.layers, recipe.heads, 4, recipe.batch, recipe.length, characters.vocab)
    training = {
        "seed": seed,
        "train.max_steps": recipe.iterations,
        "train.learning_rate": recipe.learning_rate,
        "train.min_lr_ratio": recipe.min_learning_rate / recipe.learning_rate,
        "train.warmup_steps": recipe.warm_up,
        "train.weight_decay": recipe.weight_decay,
        "train.beta2": recipe.betas[1],
        "train.grad_clip": recipe.clip,
        "train.schedule": "cosine",
    }
    config = shape.config(architecture, training | overrides)
    model = model_of(config, characters.vocab).train()
    optimizer = build_optimizer(model, config.train)

    def logits(ids_BT: Tensor) -> Tensor:
        found = model(input_ids=ids_BT).logits
        assert isinstance(found, Tensor)
        return found

    def set_rate(iteration: int) -> None:
        set_rates(optimizer, rate_factor(config.train, iteration, recipe.iterations))

    arm = Arm(model, logits, optimizer, set_rate, choose_precision(config.train, CPU))
    return _built(arm, characters, seed, recipe)


def _built(arm: Arm, characters: Characters, seed: int, recipe: Recipe) -> Built:
    generator = torch.Generator().manual_seed(1000 + seed)
    counter = itertools.count()

    def step() -> None:
        arm.set_rate(next(counter))
        ids_BT, targets_BT = characters.batch(generator, recipe.batch, recipe.length)
        with autocast(CPU, arm.precision):
            loss = F.cross_entropy(arm.logits(ids_BT).flatten(0, 1), targets_BT.flatten())
        optimize(arm.model, arm.optimizer, loss, recipe.clip)

    def full_loss() -> float:
        arm.model.eval()
        with autocast(CPU, arm.precision):
            loss = characters.full_loss(arm.logits, recipe.length)
        arm.model.train()
        return loss

    parameters = sum(each.numel() for each in arm.model.parameters())
    return Built(step, {"parameters": parameters, "precision": arm.precision}, {"full_loss": full_loss})
