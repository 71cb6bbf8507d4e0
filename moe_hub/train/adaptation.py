"""What adapts itself between two optimizer steps: the controllers and state machines inside the layers.

Called once after each optimizer step and never in evaluation. All state lies in model buffers, so a state_dict
carries it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from moe_hub.config import Config
from moe_hub.models.language_model import LanguageModel


@dataclass(frozen=True)
class StepFacts:
    """What the trainer knows after a step.

    `step` optimizer steps are done; `task_loss` is that of this step and `unigram_entropy` that of the training
    targets, in nat; `rate_factor` is the present share of the peak learning rate.
    """

    step: int
    task_loss: float
    unigram_entropy: float
    rate_factor: float


def after_step(
    model: LanguageModel, optimizer: torch.optim.Optimizer, config: Config, facts: StepFacts
) -> dict[str, Any]:
    """Lets every layer adapt; returns metric values and events to log, by metric name."""
    found: dict[str, Any] = {}
    return found
