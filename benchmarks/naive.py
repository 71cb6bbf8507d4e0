"""The same functions as `moe_hub.models`, written the plain way: the reference of correctness and of speed.

As in the first implementation: a Python loop over experts, each with its own modules; a graph object for every token
of the batch, joined into one large graph in every forward pass, messages passed by gather and scatter; ghost experts
(all dormant here) computed always and multiplied by their activation, 0; fp32; torch's AdamW as it comes. The function
is that of this project's models (gated readout, residual, self-hyperedges, the same widths), so both can be held
against each other to rounding; the order of operations is that in which the formulas are written: M norm(D) first,
then W1. `first_implementation` has that program's own function.

Legend: B batch, T time, N = B x T tokens, E experts (ghosts last), D d_model, K head width, R coupling width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch as GraphBatch  # type: ignore[import-untyped]
from torch_geometric.data import Data
from torch_geometric.utils import scatter  # type: ignore[import-untyped]

from moe_hub.architectures import ghost_hyperedges, hyperedges
from moe_hub.config.model import ModelConfig


@dataclass(frozen=True)
class NaiveShape:
    """What the plain model needs to know."""

    vocab: int
    d_model: int
    layers: int
    heads: int
    experts: int
    ghosts: int = 0
    rope_base: float = 10000.0
    strategy: str = "all_pairs"
    coupled: bool = True
    rotation_dims: int = 0

    @classmethod
    def of(cls, model: ModelConfig, vocab: int) -> NaiveShape:
        """The shape of one of this project's models."""
        rotated = model.architecture == "geometric"
        return cls(
            vocab, model.d_model, model.num_layers, model.num_heads, model.num_experts, model.num_ghosts,
            model.rope_base, model.coupling.strategy, True, model.geometric.rotation_dims if rotated else 0,
        )  # fmt: skip


def rms_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean(x^2) + 1e-6)."""
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def rotary(x_BHTK: Tensor, base: float) -> Tensor:
    """Rotary positions: dimension i turns against i + K/2 by position x base^(-2i/K)."""
    half = x_BHTK.shape[-1] // 2
    frequency = base ** (-torch.arange(half, dtype=x_BHTK.dtype) / half)
    angle = torch.arange(x_BHTK.shape[-2], dtype=x_BHTK.dtype)[:, None] * frequency
    a, b = x_BHTK[..., :half], x_BHTK[..., half:]
    return torch.cat((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), dim=-1)


class NaiveExpert(nn.Module):
    """One transformer block without its residual: u = Attention(norm x), delta = u + FFN(norm(x + u))."""

    def __init__(self, shape: NaiveShape) -> None:
        super().__init__()
        d = shape.d_model
        self.heads = shape.heads
        self.rope_base = shape.rope_base
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.up = nn.Linear(d, 4 * d, bias=False)
        self.down = nn.Linear(4 * d, d, bias=False)
        self.theta_P = nn.Parameter(torch.zeros(shape.rotation_dims)) if shape.rotation_dims else None

    def forward(self, x_BTD: Tensor, allowed_TT: Tensor) -> Tensor:
        u_BTD = self.attention(self.turn(rms_norm(x_BTD)), allowed_TT)
        hidden = F.relu(self.up(self.turn(rms_norm(x_BTD + u_BTD)))) ** 2
        delta_BTD: Tensor = u_BTD + self.down(hidden)
        return delta_BTD

    def attention(self, x_BTD: Tensor, allowed_TT: Tensor) -> Tensor:
        batch, length, d = x_BTD.shape
        q, k, v = (
            part.view(batch, length, self.heads, d // self.heads).transpose(1, 2)
            for part in self.qkv(x_BTD).chunk(3, dim=-1)
        )
        q, k = rotary(rms_norm(q), self.rope_base), rotary(rms_norm(k), self.rope_base)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed_TT)
        out_BTD: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, d))
        return out_BTD

    def turn(self, x_BTD: Tensor) -> Tensor:
        """R(theta) x for every token: plane (2j, 2j + 1) turns by theta[j mod P]."""
        if self.theta_P is None:
            return x_BTD
        angle = self.theta_P.repeat(math.ceil(x_BTD.shape[-1] / 2 / len(self.theta_P)))[: x_BTD.shape[-1] // 2]
        a, b = x_BTD[..., 0::2], x_BTD[..., 1::2]
        turned = torch.stack((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), dim=-1)
        return turned.flatten(-2)


class TokenGraph(Data):  # type: ignore[misc]
    """The hypergraph over the experts of one token; `Batch` shifts nodes and hyperedges of each by its own count."""

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key == "hyperedge_index":
            return torch.tensor([[self.num_nodes], [self.num_hyperedges]])
        return super().__inc__(key, value, *args, **kwargs)


class NaiveCoupling(nn.Module):
    """D' = D + GELU(M norm(D) W1) U, with M applied by passing messages node -> hyperedge -> node."""

    def __init__(self, shape: NaiveShape) -> None:
        super().__init__()
        self.nodes = shape.experts + shape.ghosts
        edges = hyperedges(shape.strategy, shape.experts)
        edges += ghost_hyperedges(shape.strategy, shape.experts, shape.ghosts)
        everything = [*edges, *((node,) for node in range(self.nodes))]  # self-hyperedges last
        pairs = [(node, edge) for edge, members in enumerate(everything) for node in members]
        self.edges = edges
        self.hyperedge_index = torch.tensor(pairs).T.contiguous()
        self.rho = nn.Parameter(torch.full((len(edges),), math.log(math.e - 1)))
        self.project = nn.Linear(shape.d_model, shape.d_model // 4, bias=False)
        self.expand = nn.Linear(shape.d_model // 4, shape.d_model, bias=False)

    def forward(self, delta_BTED: Tensor, activation_E: Tensor) -> Tensor:
        batch, length, nodes, d = delta_BTED.shape
        weight_M = F.softplus(self.rho) * torch.stack([activation_E[list(edge)].prod() for edge in self.edges])
        weight_M = torch.cat((weight_M, weight_M.new_ones(nodes)))
        graphs = [
            TokenGraph(x=node_ED, hyperedge_index=self.hyperedge_index, num_hyperedges=len(weight_M))
            for node_ED in rms_norm(delta_BTED).view(batch * length, nodes, d)
        ]
        graph = GraphBatch.from_data_list(graphs)
        message = self.propagate(graph.x, graph.hyperedge_index, weight_M.repeat(batch * length))
        out: Tensor = self.expand(F.gelu(self.project(message)))
        return delta_BTED + out.view(batch, length, nodes, d)

    def propagate(self, x: Tensor, hyperedge_index: Tensor, weight: Tensor) -> Tensor:
        """D^-1 H W B^-1 H^T x for one large graph (Bai et al. 2019, eq. 5)."""
        node, edge = hyperedge_index
        mean_of_edge = scatter(x.index_select(0, node), edge, dim_size=len(weight), reduce="mean")
        total: Tensor = scatter(
            (mean_of_edge * weight[:, None]).index_select(0, edge), node, dim_size=len(x), reduce="sum"
        )
        weight_of_node: Tensor = scatter(weight[edge], node, dim_size=len(x), reduce="sum")
        return total / weight_of_node[:, None]


class NaiveLayer(nn.Module):
    """y = x + sum_e pi_e(x) C(D)_e; a ghost with activation 0 has no hyperedge, no share, and no gradient but 0."""

    ghost_activation_G: Tensor

    def __init__(self, shape: NaiveShape) -> None:
        super().__init__()
        self.experts = nn.ModuleList(NaiveExpert(shape) for _ in range(shape.experts))
        self.ghosts = nn.ModuleList(NaiveExpert(shape) for _ in range(shape.ghosts))
        self.router = nn.Linear(shape.d_model, shape.experts + shape.ghosts, bias=False)
        self.coupling = NaiveCoupling(shape) if shape.coupled else None
        self.register_buffer("ghost_activation_G", torch.zeros(shape.ghosts))

    def forward(self, x_BTD: Tensor, allowed_TT: Tensor) -> Tensor:
        level_G = self.ghost_activation_G
        deltas = [expert(x_BTD, allowed_TT) for expert in self.experts]
        deltas += [level * ghost(x_BTD, allowed_TT) for level, ghost in zip(level_G, self.ghosts, strict=True)]
        delta_BTED = torch.stack(deltas, dim=2)
        activation_E = torch.cat((level_G.new_ones(len(self.experts)), level_G))
        if self.coupling is not None:
            delta_BTED = self.coupling(delta_BTED, activation_E)
        gate_BTE = torch.softmax(self.router(rms_norm(x_BTD)) + activation_E.log(), dim=-1)
        return x_BTD + (delta_BTED * gate_BTE.unsqueeze(-1)).sum(2)


class NaiveModel(nn.Module):
    """Embedding, layers, tied head; logits (B, T, V)."""

    def __init__(self, shape: NaiveShape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocab, shape.d_model)
        self.layers = nn.ModuleList(NaiveLayer(shape) for _ in range(shape.layers))

    def forward(self, input_ids_BT: Tensor) -> Tensor:
        length = input_ids_BT.shape[1]
        allowed_TT = torch.ones(length, length, dtype=torch.bool).tril()
        x_BTD = self.embedding(input_ids_BT)
        for layer in self.layers:
            x_BTD = layer(x_BTD, allowed_TT)
        return F.linear(rms_norm(x_BTD), self.embedding.weight)
