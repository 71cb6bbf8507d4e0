"""A run small enough for a unit test, with every part real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from moe_hub.config import Config, load_config

SMALL = (
    "model.d_model=16",
    "model.num_heads=2",
    "model.num_layers=2",
    "model.num_experts=3",
    "model.max_seq_len=96",
    "model.dropout=0.1",
    "model.geometric.rotation_dims=4",
    "train.max_steps=12",
    "train.batch_size=2",
    "train.warmup_steps=2",
    "train.eval_every=6",
    "train.eval_batches=1",
    "train.log_every=3",
    "train.checkpoint_every=6",
    "train.precision=fp32",
    "train.device=cpu",
    "data.num_train_samples=60",
    "data.num_eval_samples=12",
    "data.max_term_size=9",
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def small_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """`small_config("ghost", "train.max_steps=4")`: a config that trains in a second or two."""
    monkeypatch.setenv("MOE_HUB_DATA", str(tmp_path / "data"))

    def make(architecture: str = "geometric", *overrides: str) -> Config:
        mode = "geometric" if architecture == "geometric" else "standard"
        return load_config(overrides=(f"model.architecture={architecture}", f"train.mode={mode}", *SMALL, *overrides))

    return make
