"""The layers once more, in the plainest way: float64, one expert, head and hyperedge at a time, nothing folded."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from moe_hub.architectures import ghost_hyperedges, hyperedges
from moe_hub.models.base import Layer
from moe_hub.models.coupling import HypergraphCoupling
from moe_hub.models.gnn import GraphCoupling
from moe_hub.models.language_model import LanguageModel


def rms(x: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()


def rope(x: Tensor, base: float) -> Tensor:
    """x (T, K)."""
    length, width = x.shape
    out = torch.empty_like(x)
    for t in range(length):
        for i in range(width // 2):
            angle = t * base ** (-2 * i / width)
            a, b = x[t, i], x[t, i + width // 2]
            out[t, i] = a * math.cos(angle) - b * math.sin(angle)
            out[t, i + width // 2] = a * math.sin(angle) + b * math.cos(angle)
    return out


def attend(x: Tensor, qkv: Tensor, out: Tensor, heads: int, base: float) -> Tensor:
    """One attention on one row (T, D)."""
    length, d = x.shape
    q, k, v = (x @ part.T for part in qkv.split(d))
    width, parts = d // heads, []
    for h in range(heads):
        cut = slice(h * width, (h + 1) * width)
        score = rope(rms(q[:, cut]), base) @ rope(rms(k[:, cut]), base).T / math.sqrt(width)
        mask = torch.full((length, length), float("-inf"), dtype=x.dtype).triu(1)
        parts.append(torch.softmax(score + mask, -1) @ v[:, cut])
    return torch.cat(parts, -1) @ out.T


def ffn(x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
    return F.relu(x @ w1.T).pow(2) @ w2.T


def hypergraph_operator(edges: list[tuple[int, ...]], weights: Tensor, nodes: int) -> Tensor:
    """M, entry by entry."""
    rows = []
    for i in range(nodes):
        row = [torch.zeros((), dtype=torch.float64) for _ in range(nodes)]
        row[i] = row[i] + 1
        degree = torch.ones((), dtype=torch.float64)
        for edge, weight in zip(edges, weights, strict=True):
            if i in edge:
                degree = degree + weight
                for j in edge:
                    row[j] = row[j] + weight / len(edge)
        rows.append(torch.stack(row) / degree)
    return torch.stack(rows)


def couple_hypergraph(c: HypergraphCoupling, deltas: list[Tensor]) -> list[Tensor]:
    m = hypergraph_operator(list(c.edges), c.edge_weights(), len(deltas))
    out = []
    for i, delta in enumerate(deltas):
        message = sum(m[i, j] * rms(other) for j, other in enumerate(deltas))
        out.append(delta + c.scale * F.gelu(message @ c.w1_DR) @ c.u_RD)
    return out


def couple_graph(c: GraphCoupling, deltas: list[Tensor]) -> list[Tensor]:
    experts, nodes = len(deltas), [rms(delta) for delta in deltas]
    weight = c.edge_weights().view(experts, experts - 1)
    out = []
    for i in range(experts):
        heard = torch.zeros_like(deltas[i])
        for j in range(experts):
            if i != j:
                edge = weight[i, j - (j > i)]
                content = torch.sigmoid(nodes[i] @ c.content_2D[0] + nodes[j] @ c.content_2D[1] + c.bias)
                heard = heard + (edge * content / (experts - 1)).unsqueeze(-1) * nodes[j]
        inner = F.gelu(nodes[i] @ c.w_self_DR + heard @ c.w_neighbour_DR)
        out.append(deltas[i] + c.scale * inner @ c.u_RD)
    return out


def expert_row(layer: Layer, x: Tensor, seen: Tensor, e: int, model: LanguageModel) -> Tensor:
    """Delta of one expert on one row, the data rotated instead of the weights."""
    settings = model.settings
    turn = layer.rotation.matrix()[e] if layer.rotation is not None else torch.eye(x.shape[1], dtype=x.dtype)
    w1, w2 = (stack[e % len(stack)] for stack in (layer.feed_forward.w1_EFD, layer.feed_forward.w2_EDF))
    if settings.scope == "ffn":
        return ffn(seen @ turn.T, w1, w2)
    qkv, out = (stack[e % len(stack)] for stack in (layer.attention.qkv_EOD, layer.attention.out_EDD))
    u = attend(seen @ turn.T, qkv, out, settings.num_heads, settings.rope_base)
    return u + ffn(rms(x + u) @ turn.T, w1, w2)


def layer_row(layer: Layer, x: Tensor, model: LanguageModel) -> Tensor:
    """One layer on one row (T, D); ghosts dormant."""
    settings = model.settings
    seen = rms(x)
    if settings.scope == "ffn":
        shared = layer.shared_attention
        x = x + attend(seen, shared.qkv_EOD[0], shared.out_EDD[0], settings.num_heads, settings.rope_base)
        seen = rms(x)
    deltas = [expert_row(layer, x, seen, e, model) for e in range(layer.num_experts)]
    for coupling in layer.coupling:
        deltas = (
            couple_graph(coupling, deltas)
            if isinstance(coupling, GraphCoupling)
            else couple_hypergraph(coupling, deltas)
        )
    experts = layer.num_experts
    gate = torch.full((len(x), experts), 1 / experts, dtype=x.dtype)
    if layer.gate is not None:
        gate = torch.softmax(seen @ layer.gate.weight_ED.T, -1)
    return x + sum(gate[:, e : e + 1] * delta for e, delta in enumerate(deltas))


def naive_logits(model: LanguageModel, ids: Tensor) -> Tensor:
    """Logits (B, T, V) of a float64 model."""
    rows = []
    for row in ids:
        x = model.embedding.weight[row]
        for layer in model.stack:
            x = layer_row(layer, x, model)
        rows.append(rms(x) @ model.embedding.weight.T)
    return torch.stack(rows)


def full_operator(c: HypergraphCoupling, activation: list[float]) -> Tensor:
    """M over experts and ghosts: a hyperedge counts its weight times the activations of its ghosts."""
    ghost_edges = ghost_hyperedges("all_pairs", c.num_experts, c.num_ghosts)
    assert list(c.edges) == hyperedges("all_pairs", c.num_experts)
    weights = list(c.edge_weights())
    for edge in ghost_edges:
        alone = edge[0] >= c.num_experts
        weight = F.softplus(c.ghost_rho[int(alone)])
        for node in edge:
            if node >= c.num_experts:
                weight = weight * activation[node - c.num_experts]
        weights.append(weight)
    return hypergraph_operator([*c.edges, *ghost_edges], torch.stack(weights), c.num_experts + c.num_ghosts)
