"""What stands beside the model in a training step: making a batch, and writing a metric row."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import torch

from benchmarks.timing import Built
from benchmarks.training_step import optimize
from moe_hub.config import load_config
from moe_hub.data.prepare import open_data
from moe_hub.runs.writer import MetricWriter
from moe_hub.train.device import choose_precision
from moe_hub.train.objective import autocast, loss_terms
from moe_hub.train.optimization import build_optimizer
from moe_hub.train.session import build_parts

SAMPLES = ("data.num_train_samples=2000", "data.num_eval_samples=100")


def build_batch(preset: str) -> Built:
    """One training batch of a preset's data."""
    folder = tempfile.TemporaryDirectory()
    data = open_data(load_config(preset, overrides=SAMPLES), cache_dir=Path(folder.name))
    counter = itertools.count()
    return Built(lambda: data.train_batch(next(counter)), {}, {"close": folder.cleanup})


def build_step(preset: str) -> Built:
    """One training step of a preset, batch included in none of it: four batches in a cycle."""
    folder = tempfile.TemporaryDirectory()
    config = load_config(preset, overrides=[*SAMPLES, "train.device=cpu"])
    parts = build_parts(config, cache_dir=Path(folder.name))
    data, model = parts.data, parts.model.train()
    optimizer = build_optimizer(model, config.train)
    batches = itertools.cycle([data.train_batch(index) for index in range(4)])
    precision = choose_precision(config.train, torch.device("cpu"))

    def step() -> None:
        with autocast(torch.device("cpu"), precision):
            total, _, _ = loss_terms(model, next(batches), config.train)
        optimize(model, optimizer, total, config.train.grad_clip)

    return Built(step, {"precision": precision}, {"close": folder.cleanup})


def build_row(layers: int = 2, experts: int = 8) -> Built:
    """One metric row with a realistic load: about twenty scalars and the tables of a layer."""
    folder = tempfile.TemporaryDirectory()
    writer = MetricWriter(Path(folder.name))
    values: dict[str, object] = {f"loss/{name}": 1.2345678 for name in "abcdefghijklmnopqrst"}
    values["expert/load"] = torch.rand(layers, experts).tolist()
    values["expert/similarity"] = torch.rand(layers, experts, experts).tolist()
    values["coupling/hyperedge_weight"] = torch.rand(layers, experts * (experts - 1) // 2).tolist()
    values["rotation/theta_rad"] = torch.rand(layers, experts, 4).tolist()
    counter = itertools.count()
    return Built(lambda: writer.write(next(counter), values, tokens=1024), {}, {"close": folder.cleanup})
