"""Made-up runs: smooth curves with noise, clearly test data. No number here was measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from moe_hub.runs.history import RunHistory

LAYERS, EXPERTS, PLANES, GHOSTS = 2, 4, 4, 2
CONFIG: dict[str, Any] = {
    "name": "made-up",
    "seed": 0,
    "model": {
        "architecture": "ghost", "d_model": 32, "num_layers": LAYERS, "num_heads": 4, "num_experts": EXPERTS,
        "coupling": {"strategy": "all_pairs"}, "geometric": {"rotation_type": "givens", "max_angle_rad": 0.8},
        "ghost": {"num_ghosts": GHOSTS, "activation_threshold": 0.4, "saturation_window": 50, "min_step": 100,
                  "ramp_steps": 50, "plateau": 0.5},
    },
    "train": {"loss_weights": {"orthogonality": 0.5, "rotation_efficiency": 0.2, "specialization": 0.3}},
}  # fmt: skip

Make = Callable[..., RunHistory]


def made_history(
    rows: int = 200, seed: int = 0, *, every: int = 5, run_id: str | None = None, changes: dict[str, Any] | None = None
) -> RunHistory:
    """A run with a value for every figure; `changes` replaces top keys of the config."""
    rng = np.random.default_rng(seed)
    config = {**CONFIG, "seed": seed, **(changes or {})}
    table = [made_row(index, rows, every, rng, seed) for index in range(rows)]
    return RunHistory(run_id or f"20261124-15551{seed % 10}-made-up-{seed:04x}", config, None, table, version=f"{rows}")


def made_row(index: int, rows: int, every: int, rng: np.random.Generator, seed: int) -> dict[str, Any]:
    """One row of every kind of metric."""
    part = index / max(1, rows - 1)
    row: dict[str, Any] = {"step": index * every, "time": 1e9 + index * 0.7, "tokens": index * every * 4096}
    loss = 2.5 * math.exp(-4 * part) + 0.4 + 0.05 * rng.normal() + 0.01 * seed
    row |= {
        "train/loss": loss, "loss/task": loss, "loss/total": loss + 0.3,
        "loss/orthogonality": 0.02 + 0.01 * rng.random(),
        "loss/rotation_efficiency": 0.05 * part, "loss/specialization": 1 - 0.4 * part, "time/active_s": index * 0.6,
        "time/tokens_per_s": 21000 + 300 * rng.normal(), "system/cpu_percent": 190 + 5 * rng.normal(),
        "system/memory_mb": 620 + 20 * part, "optim/grad_norm_total": 1 + 0.1 * rng.normal(),
    }  # fmt: skip
    rate = min(1.0, index / 20) * (0.55 + 0.45 * math.cos(math.pi * part))
    for group, peak in {"base": 1e-3, "expert": 1e-4, "rotation": 1e-3, "ghost": 1e-4}.items():
        row[f"optim/lr/{group}"] = peak * (rate if group != "ghost" else (1 - rate) * (part > 0.5))
        row[f"optim/grad_norm/{group}"] = abs(rng.normal(1, 0.2)) * (part > 0.5 or group != "ghost")
    row |= {"loss/load_balance": 1 + part, "loss/router_z": 2 - part, "orthogonal/weight": [0.1 + part, 0.1]}
    row |= {"orthogonal/overlap": [1 / 32 + 0.1 * part, 0.05], "expert/weight_overlap": [0.01 * part, 0.0]}
    if index % 20 == 0:
        row |= _evaluation(part, loss)
    if index % 50 == 49:
        row["event/checkpoint"] = 1
    return row | _experts(part, rng) | _ghosts(part, index, rows, rng)


def _evaluation(part: float, loss: float) -> dict[str, Any]:
    share = 0.9 * part
    row = {"val/loss": loss + 0.05, "val/perplexity": math.exp(loss), "val/exact_match": share}
    row |= {"val/exact_match_ci_low": max(0, share - 0.03), "val/exact_match_ci_high": min(1, share + 0.03)}
    row |= {f"val/exact_match/{k}": share ** (1 + k / 2) for k in (1, 2, 3, 10)}
    phases = ("syntax", "reduction", "semantic", "pedagogical")
    row |= {f"lambda/loss/{name}": loss * (1 + i / 5) for i, name in enumerate(phases)}
    return row | {f"lambda/exact_match/{name}": share / (1 + i / 5) for i, name in enumerate(phases)}


def _experts(part: float, rng: np.random.Generator) -> dict[str, Any]:
    load = np.exp(rng.normal(0, 0.1, (LAYERS, EXPERTS)) + part * np.linspace(-1, 1, EXPERTS))
    utilization = np.clip(1 - part * np.linspace(1.2, 0, EXPERTS), 0, 1) * np.ones((LAYERS, 1))
    theta = part * np.linspace(-0.7, 0.9, LAYERS * EXPERTS * PLANES).reshape(LAYERS, EXPERTS, PLANES)
    theta = theta + 0.02 * np.sin(9 * part + np.arange(PLANES))
    mutual = 0.2 * part * rng.normal(1, 0.1, (LAYERS, EXPERTS, EXPERTS))
    similarity = (mutual + mutual.transpose(0, 2, 1)) / 2 * (1 - np.eye(EXPERTS)) + np.eye(EXPERTS)
    first, second = theta[0, :, 0], theta[0, :, 1]
    pairs = EXPERTS * (EXPERTS - 1) // 2
    every_pair = (EXPERTS + GHOSTS) * (EXPERTS + GHOSTS - 1) // 2
    weight = np.concatenate([1 + part * np.linspace(-0.5, 0.8, pairs), np.zeros(every_pair - pairs)])
    offsets = np.array([0, 0.5, 1, 1.5]) * math.pi * min(1, 2 * part)
    return {
        "expert/load": load / load.sum(1, keepdims=True), "expert/utilization": utilization,
        "expert/similarity": similarity, "expert/cka": similarity**2,
        "expert/orthogonality": 0.1 * part * np.ones(LAYERS),
        "expert/specialization": 0.4 * part * np.array([1.0, 0.6]),
        "expert/effective_rank": 4 - part * np.array([0.5, 1]),
        "router/entropy": 1 - 0.5 * part * np.array([1.0, 0.4]), "rotation/theta_rad": theta,
        "rotation/efficiency": (1 - np.cos(theta)).mean(2) / 2,
        "rotation/orthogonality_error": 2e-7 * (1 + rng.random(LAYERS)),
        "coupling/adjacency": rng.dirichlet(np.ones(EXPERTS + GHOSTS), (LAYERS, EXPERTS + GHOSTS)),
        "coupling/hyperedge_weight": np.tile(weight, (LAYERS, 1)),
        "probe/rotated": np.stack([np.cos(first), np.sin(first), np.cos(second)], -1) / math.sqrt(2),
        "lambda/phase_weight": [1, min(1, 2 * part), max(0, 2 * part - 1), 0], "lambda/phase_offset_rad": offsets,
    }  # fmt: skip


def _ghosts(part: float, index: int, rows: int, rng: np.random.Generator) -> dict[str, Any]:
    on = np.clip((part - np.array([[0.5, 0.9], [0.6, 2]])) * 10, 0, 1)
    woken = [[int(index == rows // 2), int(index == 9 * rows // 10)], [int(index == 6 * rows // 10), 0]]
    found: dict[str, Any] = {
        "ghost/activation": on, "ghost/contribution": 0.1 * on, "ghost/threshold": 0.4,
        "ghost/saturation": np.array([0.9, 0.7]) * (1 - 0.5 * part) + 0.01 * rng.normal(size=2),
        "ghost/diversity": np.array([0.95, 0.9]), "ghost/unexplained": 1 - 0.5 * part,
        "ghost/loss_improvement": 0.3 * (1 - part), "ghost/gradient_fvu": np.array([0.8, 0.7]) - 0.2 * part,
        "ghost/residual_variance": np.array([0.1, 0.4]) * part,
    }  # fmt: skip
    return found | ({"event/ghost_woken": woken} if any(map(any, woken)) else {})


@pytest.fixture(scope="session")
def make_history() -> Make:
    """The function, as a fixture."""
    return made_history


@pytest.fixture(scope="session")
def history() -> RunHistory:
    """One run with a value for every figure."""
    return made_history()
