"""Steps of this project's models as the trainer takes them: forward, backward, clip, update, adapt, log where due.

Legend: B batch, T time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.flops import flops_per_step
from benchmarks.timing import Built
from moe_hub.config import Config, nest
from moe_hub.data.batch import Batch
from moe_hub.models import build_model
from moe_hub.models.language_model import LanguageModel
from moe_hub.runs.writer import MetricWriter
from moe_hub.train.adaptation import StepFacts, after_step
from moe_hub.train.device import choose_precision
from moe_hub.train.objective import autocast, loss_terms
from moe_hub.train.optimization import build_optimizer, gradient_norms, named_groups, set_rates
from moe_hub.train.record import loggable

CPU = torch.device("cpu")
NEVER = 1_000_000  # steps: ghosts stay dormant as long as a benchmark runs


@dataclass(frozen=True)
class Shape:
    """Shape of the compared models and batches. The defaults are those of the goals in the design."""

    d_model: int = 128
    layers: int = 2
    heads: int = 4
    experts: int = 8
    batch: int = 8
    length: int = 128
    vocab: int = 512

    def config(self, architecture: str, overrides: dict[str, Any] | None = None) -> Config:
        """A config of this shape; `overrides` by dotted name."""
        values: dict[str, Any] = {
            "model.architecture": architecture,
            "model.d_model": self.d_model,
            "model.num_layers": self.layers,
            "model.num_heads": self.heads,
            "model.num_experts": self.experts,
            "model.max_seq_len": self.length,
            "model.ghost.min_step": NEVER,
            "train.batch_size": self.batch,
            **(overrides or {}),
        }
        return Config.model_validate(nest(values))

    def batches(self, count: int = 4) -> Iterator[Batch]:
        """An endless cycle of `count` random batches, one document a row; the same for every contender."""
        generator = torch.Generator().manual_seed(1)
        ids = [torch.randint(self.vocab, (self.batch, self.length), generator=generator) for _ in range(count)]
        return itertools.cycle([Batch(each, each, torch.ones_like(each)) for each in ids])


def model_of(config: Config, vocab: int) -> LanguageModel:
    """The model of a config for a vocabulary of `vocab` ids."""
    return build_model(config, vocab_size=vocab, bos_token_id=1, eos_token_id=2, pad_token_id=0)


def optimize(model: torch.nn.Module, optimizer: torch.optim.Optimizer, total: Tensor, clip: float) -> None:
    """Backward, clip, update: the plain end of a step."""
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward([total])
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()


class TrainingStep:
    """One step of `moe_hub.train.loop` without its data, controls and checkpoints; a row every `log_every` steps."""

    def __init__(
        self, model: LanguageModel, config: Config, batches: Iterator[Batch], precision: str, device: torch.device = CPU
    ) -> None:
        self.model, self.config, self.batches, self.precision = model.train(), config, batches, precision
        self.device = device
        self.optimizer = build_optimizer(model, config.train)
        self.groups = named_groups(model)
        self.writer: MetricWriter | None = None
        self.log_every = 0
        self.done = 0

    def __call__(self) -> None:
        self.done += 1
        logged = self.log_every > 0 and self.done % self.log_every == 0
        rates = set_rates(self.optimizer, 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        batch = next(self.batches).to(self.device)
        with autocast(self.device, self.precision):
            total, terms, measures = loss_terms(self.model, batch, self.config.train, measure=logged)
        torch.autograd.backward([total])
        norms = gradient_norms(self.groups) if logged else {}
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.grad_clip)
        self.optimizer.step()
        facts = StepFacts(self.done, terms["task"].item(), 3.0, 1.0)
        events = after_step(self.model, self.optimizer, self.config, facts)
        if self.writer is not None and logged:
            losses = {f"loss/{name}": term.detach() for name, term in terms.items()}
            groups = {f"optim/lr/{name}": rate for name, rate in rates.items()}
            groups |= {f"optim/grad_norm/{name}": value for name, value in norms.items()}
            row = {**losses, **groups, "optim/grad_norm_total": norm, **measures, **events}
            self.writer.write(self.done, loggable(row))


def new_step(
    architecture: str,
    overrides: dict[str, Any] | None,
    shape: Shape,
    precision: str = "auto",
    device: torch.device = CPU,
) -> TrainingStep:
    """The step of a fresh model of an architecture at a shape, on random batches."""
    config = shape.config(architecture, overrides)
    chosen = choose_precision(config.train, device) if precision == "auto" else precision
    return TrainingStep(model_of(config, shape.vocab).to(device), config, shape.batches(), chosen, device)


def build(
    architecture: str, overrides: dict[str, Any] | None = None, shape: Shape | None = None, precision: str = "auto"
) -> Built:
    """The step as a contender; `flops` is the useful work of one."""
    shape = shape or Shape()
    step = new_step(architecture, overrides, shape, precision)
    flops = flops_per_step(step.config.model, shape.batch, shape.length, shape.vocab)
    parameters = sum(parameter.numel() for parameter in step.model.parameters())
    return Built(step, {"precision": step.precision, "shape": asdict(shape), "flops": flops, "parameters": parameters})
