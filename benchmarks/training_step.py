"""Steps of this project's models as the trainer takes them: forward, backward, clip, optimizer, and what follows.

Legend: B batch, T time.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
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
from moe_hub.train.device import choose_precision
from moe_hub.train.objective import autocast, loss_terms
from moe_hub.train.optimization import build_optimizer, gradient_norms, named_groups, set_rates


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
    """Backward, clip and update."""
    torch.autograd.backward([total])
    if clip:
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def build(
    architecture: str,
    overrides: dict[str, Any] | None = None,
    shape: Shape | None = None,
    precision: str = "auto",
) -> Built:
    """The training step of an architecture at a shape."""
    shape = shape or Shape()
    config = shape.config(architecture, overrides)
    model = model_of(config, shape.vocab).train()
    optimizer = build_optimizer(model, config.train)
    batches = shape.batches()
    device = torch.device("cpu")
    chosen = choose_precision(config.train, device) if precision == "auto" else precision

    def step() -> None:
        with autocast(device, chosen):
            total, _, _ = loss_terms(model, next(batches), config.train)
        optimize(model, optimizer, total, config.train.grad_clip)

    flops = flops_per_step(config.model, shape.batch, shape.length, shape.vocab)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Built(step, {"precision": chosen, "flops": flops, "parameters": parameters, "shape": asdict(shape)})


def build_logged(architecture: str, log_every: int, shape: Shape | None = None) -> Built:
    """The step with everything that a metric row needs on every `log_every`-th: measures, norms, writing. 0: never."""
    shape = shape or Shape()
    config = shape.config(architecture)
    model = model_of(config, shape.vocab).train()
    optimizer = build_optimizer(model, config.train)
    batches = shape.batches()
    device = torch.device("cpu")
    precision = choose_precision(config.train, device)
    groups = named_groups(model)
    folder = tempfile.TemporaryDirectory()
    writer = MetricWriter(Path(folder.name))
    counter = itertools.count()

    def step() -> None:
        index = next(counter)
        due = log_every > 0 and index % log_every == 0
        with autocast(device, precision):
            total, terms, measures = loss_terms(model, next(batches), config.train, measure=due)
        torch.autograd.backward([total])
        norms = gradient_norms(groups) if due else {}
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.train.grad_clip)
        rates = set_rates(optimizer, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if due:
            row: dict[str, Any] = {f"loss/{name}": term.item() for name, term in terms.items()}
            row |= {f"optim/lr/{name}": rate for name, rate in rates.items()}
            row |= {f"optim/grad_norm/{name}": value for name, value in norms.items()}
            writer.write(index, row | {name: value.tolist() for name, value in measures.items()})

    return Built(step, {"folder": folder.name}, {"close": folder.cleanup})
