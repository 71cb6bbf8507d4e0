"""The table of architectures: what each is called, where its code is, what it reads and logs, and its parameter count.

The counts are formulas, so that a form can show them at each keystroke without building a model; a test holds
every formula to the built model. This file imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moe_hub.config.model import ModelConfig

EXPERT_METRICS = (
    "expert/load",
    "expert/utilization",
    "expert/similarity",
    "expert/cka",
    "expert/orthogonality",
    "expert/effective_rank",
    "expert/specialization",
    "expert/weight_overlap",
)
GATE_METRICS = ("router/entropy",)
HYPERGRAPH_METRICS = ("coupling/adjacency", "coupling/hyperedge_weight")
GRAPH_METRICS = ("coupling/adjacency", "coupling/edge_weight")
CONTROLLER_METRICS = ("orthogonal/weight", "orthogonal/overlap")
ROTATION_METRICS = ("rotation/theta_rad", "rotation/efficiency", "rotation/orthogonality_error", "probe/rotated")
GHOST_METRICS = (
    "ghost/activation",
    "ghost/state",
    "ghost/contribution",
    "ghost/saturation",
    "ghost/diversity",
    "ghost/unexplained",
    "ghost/loss_improvement",
    "ghost/threshold",
)
UNEXPLAINED_METRICS = {"fvu_grad": "ghost/gradient_fvu", "legacy": "ghost/residual_variance"}  # by saturation_measure
SPARSE_METRICS = (
    "expert/load",
    "expert/utilization",
    "expert/specialization",
    "expert/weight_overlap",
    "router/entropy",
)
SECTIONS = {
    "coupling": "model.coupling",
    "rotation": "model.geometric",
    "ghosts": "model.ghost",
    "controller": "model.orthogonal",
    "sparse": "model.topk",
}


@dataclass(frozen=True)
class ParameterCount:
    """Exact numbers of parameters, frozen ones included: in all, used for one token (ghosts asleep), and by part."""

    total: int
    active: int
    parts: Mapping[str, int]


@dataclass(frozen=True)
class Architecture:
    """One row of the table.

    `metrics` are logged with the default settings; `measured_metrics` says it for any. `optional_features` can be
    switched on in the architecture's own section. `ignores` are fields of the model section that it does not read.
    """

    label: str
    summary: str
    module: str  # "module:Class" of its layers
    features: frozenset[str]  # of: experts, coupling, rotation, ghosts, controller, sparse
    metrics: tuple[str, ...]
    count: Callable[[ModelConfig, int], ParameterCount]
    optional_features: frozenset[str] = frozenset()
    ignores: tuple[str, ...] = ()

    @property
    def sections(self) -> tuple[str, ...]:
        """Config sections that this architecture reads."""
        read = self.features | self.optional_features
        return tuple(section for feature, section in SECTIONS.items() if feature in read)


def hyperedges(strategy: str, experts: int) -> list[tuple[int, ...]]:
    """The hyperedges of a strategy as tuples of experts, in a fixed order; empty where there are too few experts."""
    if experts < 2:
        return []
    if strategy == "all":
        return [tuple(range(experts))]
    sizes = {"all_pairs": [2], "all_triplets": [3], "all_orders": list(range(2, experts + 1))}[strategy]
    return [edge for size in sizes for edge in combinations(range(experts), size)]


def ghost_hyperedges(strategy: str, experts: int, ghosts: int) -> list[tuple[int, ...]]:
    """The hyperedges that ghosts (numbered after the experts) add: those with at least one ghost.

    For `all` these are one per ghost, of all experts and that ghost: one edge over everything would need all awake.
    """
    if experts < 2 or not ghosts:
        return []
    if strategy == "all":
        return [(*range(experts), experts + ghost) for ghost in range(ghosts)]
    return [edge for edge in hyperedges(strategy, experts + ghosts) if edge[-1] >= experts]


def logged_hyperedges(model: ModelConfig) -> list[tuple[int, ...]]:
    """Members of each entry of `coupling/hyperedge_weight`: among experts first, then those with ghosts."""
    strategy, experts = model.coupling.strategy, model.num_experts
    return hyperedges(strategy, experts) + ghost_hyperedges(strategy, experts, model.num_ghosts)


def hyperedge_count(strategy: str, experts: int) -> int:
    """Number of hyperedges of a strategy on E experts (self-hyperedges not counted)."""
    if experts < 2:
        return 0
    if strategy == "all_orders":
        return int(2**experts) - experts - 1
    return {"all_pairs": comb(experts, 2), "all_triplets": comb(experts, 3), "all": 1}[strategy]


def swiglu_width(d_model: int) -> int:
    """Hidden width of a gated feed-forward that has about the weights of an ungated one of width 4 D."""
    return max(8, round(8 * d_model / 3 / 8) * 8)


def measured_metrics(model: ModelConfig) -> tuple[str, ...]:
    """Names of the metrics that a model with these settings measures in its layers, in the order of the table."""
    row = ARCHITECTURES[model.architecture]
    if "experts" not in row.features:
        return ()
    names = list(row.metrics)
    if model.num_ghosts and "ghost/activation" not in names:
        names += GHOST_METRICS
    if model.num_ghosts and model.ghost.saturation_measure in UNEXPLAINED_METRICS:
        names.append(UNEXPLAINED_METRICS[model.ghost.saturation_measure])
    absent: set[str] = set()
    if model.num_experts == 1:
        absent |= {name for name in names if name.split("/")[0] in ("expert", "coupling", "router", "orthogonal")}
    if model.readout == "mean" and "sparse" not in row.features:
        absent |= set(GATE_METRICS)
    if not coupling_rounds(model):
        absent |= {*HYPERGRAPH_METRICS, *GRAPH_METRICS}
    if not logged_hyperedges(model):
        absent.add("coupling/hyperedge_weight")
    if not model.num_ghosts:
        absent |= set(GHOST_METRICS)
    return tuple(name for name in names if name not in absent)


def coupling_rounds(model: ModelConfig) -> int:
    """Message passing rounds that are built; none where nothing is coupled or the scale is 0."""
    coupled = "coupling" in ARCHITECTURES[model.architecture].features and model.num_experts > 1
    return model.coupling.num_layers if coupled and model.coupling.scale > 0 else 0


def _feed_forward(model: ModelConfig) -> int:
    return 8 * model.d_model**2


def _expert(model: ModelConfig) -> int:
    """Weights of one expert."""
    return _feed_forward(model) + (4 * model.d_model**2 if model.scope == "block" else 0)


def _shared_attention(model: ModelConfig) -> int:
    return 4 * model.d_model**2 if model.scope == "ffn" else 0


def _gate(model: ModelConfig) -> int:
    return model.d_model if model.readout == "gate" and model.num_experts > 1 else 0  # per expert


def _counted(model: ModelConfig, vocab_size: int, layer: Mapping[str, int], asleep: int = 0) -> ParameterCount:
    """Total from the parts of one layer; `asleep` of each layer's parameters are not used for a token."""
    parts = {"embedding": vocab_size * model.d_model}
    parts |= {part: model.num_layers * count for part, count in layer.items() if count}
    total = sum(parts.values())
    return ParameterCount(total, total - model.num_layers * asleep, parts)


def _count_dense(model: ModelConfig, vocab_size: int) -> ParameterCount:
    return _counted(model, vocab_size, {"attention": _shared_attention(model), "experts": _expert(model)})


def _coupled_layer(model: ModelConfig, round_parameters: int) -> dict[str, int]:
    return {
        "attention": _shared_attention(model),
        "experts": model.num_experts * _expert(model),
        "router": model.num_experts * _gate(model),
        "coupling": coupling_rounds(model) * round_parameters,
    }


def _hypergraph_round(model: ModelConfig) -> int:
    learned = model.coupling.learnable_edge_weights
    edges = hyperedge_count(model.coupling.strategy, model.num_experts) if learned else 0
    return 2 * model.d_model * (model.d_model // 4) + edges


def _count_gnn(model: ModelConfig, vocab_size: int) -> ParameterCount:
    d, experts = model.d_model, model.num_experts
    edges = experts * (experts - 1) if model.coupling.learnable_edge_weights else 0
    return _counted(model, vocab_size, _coupled_layer(model, 3 * d * (d // 4) + 2 * d + 1 + edges))


def _count_hgnn(model: ModelConfig, vocab_size: int) -> ParameterCount:
    return _counted(model, vocab_size, _coupled_layer(model, _hypergraph_round(model)))


def _ghosts(model: ModelConfig, rotation: int = 0) -> int:
    """Parameters of the ghosts of a layer."""
    if not model.num_ghosts:
        return 0
    rounds = coupling_rounds(model)
    each = _expert(model) + _gate(model) + rotation + rounds * model.d_model * (model.d_model // 4)
    edges = ghost_hyperedges(model.coupling.strategy, model.num_experts, model.num_ghosts)
    classes = {edge[0] >= model.num_experts for edge in edges} if model.coupling.learnable_edge_weights else set()
    return model.num_ghosts * each + rounds * len(classes)


def _count_ghost(model: ModelConfig, vocab_size: int) -> ParameterCount:
    ghosts = _ghosts(model)
    return _counted(model, vocab_size, {**_coupled_layer(model, _hypergraph_round(model)), "ghosts": ghosts}, ghosts)


def butterfly_layers(d_model: int) -> int:
    """Layers of a butterfly: strides 1, 2, 4, ... as long as pairs of blocks of that width tile the model width."""
    layers = 0
    while d_model % 2 ** (layers + 1) == 0:
        layers += 1
    return layers


def rotation_parameters(model: ModelConfig) -> int:
    """Free parameters of the rotation of one expert."""
    d, geometric = model.d_model, model.geometric
    block = geometric.block_size or d
    return {
        "givens": geometric.rotation_dims,
        "butterfly": butterfly_layers(d) * geometric.rotation_dims,
        "householder": geometric.reflection_pairs * d,
        "cayley": d * (block - 1) // 2,
    }[geometric.rotation_type]


def _count_geometric(model: ModelConfig, vocab_size: int) -> ParameterCount:
    layer = _coupled_layer(model, _hypergraph_round(model))
    if model.geometric.share_experts:
        layer["experts"] //= model.num_experts
    rotation = rotation_parameters(model)
    ghosts = _ghosts(model, rotation)
    parts = {**layer, "rotation": model.num_experts * rotation, "ghosts": ghosts}
    return _counted(model, vocab_size, parts, ghosts)


def _count_topk(model: ModelConfig, vocab_size: int) -> ParameterCount:
    d, experts = model.d_model, model.num_experts
    each = 8 * d * d if model.topk.activation == "relu2" else 3 * d * swiglu_width(d)
    layer = {"attention": 4 * d * d, "experts": experts * each, "router": experts * d}
    return _counted(model, vocab_size, layer, (experts - min(model.topk.top_k, experts)) * each)


_COUPLED = frozenset({"experts", "coupling"})

ARCHITECTURES: dict[str, Architecture] = {
    "dense": Architecture(
        "Dense", "One expert: the ordinary transformer, the baseline of every comparison.",
        "moe_hub.models.dense:DenseLayer", frozenset(), (), _count_dense,
        ignores=("num_experts", "readout"),
    ),
    "topk": Architecture(
        "Sparse router (topk)", "Each token goes to few experts: the sparse baseline.",
        "moe_hub.models.topk:TopkLayer", frozenset({"experts", "sparse"}), SPARSE_METRICS, _count_topk,
        ignores=("scope", "readout"),
    ),
    "gnn": Architecture(
        "Graph (gnn)", "Experts exchange messages over a graph whose edges depend on the token.",
        "moe_hub.models.gnn:GnnLayer", _COUPLED, EXPERT_METRICS + GATE_METRICS + GRAPH_METRICS, _count_gnn,
        ignores=("coupling.strategy",),
    ),
    "hgnn": Architecture(
        "Hypergraph (hgnn)", "Experts exchange messages over a hypergraph with learned edge weights.",
        "moe_hub.models.hgnn:HgnnLayer", _COUPLED, EXPERT_METRICS + GATE_METRICS + HYPERGRAPH_METRICS, _count_hgnn,
    ),
    "orthogonal": Architecture(
        "Orthogonal", "Hypergraph-coupled experts that are held apart by a loss with an adaptive weight.",
        "moe_hub.models.orthogonal:OrthogonalLayer", _COUPLED | {"controller"},
        EXPERT_METRICS + GATE_METRICS + HYPERGRAPH_METRICS + CONTROLLER_METRICS, _count_hgnn,
    ),
    "ghost": Architecture(
        "Ghost experts", "Hypergraph-coupled experts, and dormant ones that wake when those are saturated.",
        "moe_hub.models.ghost:GhostLayer", _COUPLED | {"ghosts"},
        EXPERT_METRICS + GATE_METRICS + HYPERGRAPH_METRICS + GHOST_METRICS, _count_ghost,
    ),
    "geometric": Architecture(
        "Geometric (GCL)", "Hypergraph-coupled experts, each reading the data under its own learned rotation.",
        "moe_hub.models.geometric:GeometricLayer", _COUPLED | {"rotation"},
        EXPERT_METRICS + GATE_METRICS + HYPERGRAPH_METRICS + ROTATION_METRICS, _count_geometric,
        optional_features=frozenset({"ghosts"}),
    ),
}  # fmt: skip


def count_parameters(model: ModelConfig, vocab_size: int) -> ParameterCount:
    """Exact parameter count of the model that `build_model` would make for a vocabulary of `vocab_size` ids."""
    return ARCHITECTURES[model.architecture].count(model, vocab_size)
