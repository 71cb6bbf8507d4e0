"""The table of architectures: what each is called, where its code is, what it logs and how many parameters it has.

The counts are formulas, so that a form can show them at each keystroke without building a model; a test holds
every formula to the built model. This file imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moe_hub.config import ModelConfig

EXPERT_METRICS = (
    "expert/load",
    "expert/similarity",
    "expert/orthogonality",
    "expert/effective_rank",
    "expert/specialization",
)
COUPLING_METRICS = ("coupling/hyperedge_weight",)
ROTATION_METRICS = ("rotation/theta_rad", "rotation/efficiency", "rotation/orthogonality_error", "probe/rotated")


@dataclass(frozen=True)
class ParameterCount:
    """Exact numbers of trainable parameters: in all, used for one token, and by part."""

    total: int
    active: int
    parts: Mapping[str, int]


@dataclass(frozen=True)
class Architecture:
    """One row of the table."""

    label: str
    summary: str
    module: str  # "module:Class" of its layers
    features: frozenset[str]  # of: experts, coupling, rotation
    metrics: tuple[str, ...]
    count: Callable[[ModelConfig, int], ParameterCount]

    @property
    def sections(self) -> tuple[str, ...]:
        """Config sections that this architecture reads."""
        named = {"coupling": "model.coupling", "rotation": "model.geometric"}
        return tuple(section for feature, section in named.items() if feature in self.features)


def hyperedge_count(strategy: str, experts: int) -> int:
    """Number of hyperedges M of a strategy on E experts (self-hyperedges not counted)."""
    if experts < 2:
        return 0
    if strategy == "all_pairs":
        return comb(experts, 2)
    if strategy == "all_triplets":
        return comb(experts, 3) if experts >= 3 else 0
    if strategy == "all":
        return 1
    return int(2**experts) - experts - 1  # all_orders: every subset of two or more


def _expert_parameters(model: ModelConfig, experts: int) -> dict[str, int]:
    d = model.d_model
    attention = 4 * d * d
    feed_forward = 8 * d * d
    if model.scope == "block":
        return {"attention": 0, "experts": model.num_layers * experts * (attention + feed_forward)}
    return {"attention": model.num_layers * attention, "experts": model.num_layers * experts * feed_forward}


def _count_dense(model: ModelConfig, vocab_size: int) -> ParameterCount:
    parts = {"embedding": vocab_size * model.d_model, **_expert_parameters(model, 1)}
    total = sum(parts.values())
    return ParameterCount(total, total, parts)


def _count_coupled(model: ModelConfig, vocab_size: int) -> ParameterCount:
    d, experts, layers = model.d_model, model.num_experts, model.num_layers
    parts = {"embedding": vocab_size * d, **_expert_parameters(model, experts)}
    parts["router"] = layers * experts * d if model.readout == "gate" and experts > 1 else 0
    if experts > 1 and model.coupling.num_layers and model.coupling.scale > 0:
        edges = hyperedge_count(model.coupling.strategy, experts) if model.coupling.learnable_edge_weights else 0
        parts["coupling"] = layers * model.coupling.num_layers * (2 * d * (d // 4) + edges)
    total = sum(parts.values())
    return ParameterCount(total, total, {part: count for part, count in parts.items() if count})


def _count_geometric(model: ModelConfig, vocab_size: int) -> ParameterCount:
    coupled = _count_coupled(model, vocab_size)
    theta = model.num_layers * model.num_experts * model.geometric.rotation_dims
    return ParameterCount(coupled.total + theta, coupled.active + theta, {**coupled.parts, "rotation": theta})


ARCHITECTURES: dict[str, Architecture] = {
    "dense": Architecture(
        "Dense", "One expert: the ordinary transformer, the baseline of every comparison.",
        "moe_hub.models.dense:DenseLayer", frozenset(), (), _count_dense,
    ),
    "hgnn": Architecture(
        "Hypergraph (hgnn)", "Experts exchange messages over a hypergraph with learned edge weights.",
        "moe_hub.models.hgnn:HgnnLayer", frozenset({"experts", "coupling"}),
        EXPERT_METRICS + COUPLING_METRICS, _count_coupled,
    ),
    "geometric": Architecture(
        "Geometric (GCL)", "Hypergraph-coupled experts, each reading the data under its own learned rotation.",
        "moe_hub.models.geometric:GeometricLayer", frozenset({"experts", "coupling", "rotation"}),
        EXPERT_METRICS + COUPLING_METRICS + ROTATION_METRICS, _count_geometric,
    ),
}  # fmt: skip


def count_parameters(model: ModelConfig, vocab_size: int) -> ParameterCount:
    """Exact parameter count of the model that `build_model` would make for a vocabulary of `vocab_size` ids."""
    return ARCHITECTURES[model.architecture].count(model, vocab_size)
