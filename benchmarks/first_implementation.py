"""The first implementation's own step, written anew from the description of how it worked: a reference of speed alone.

Its function differs from this project's: LayerNorm, biases and GELU experts of torch's MultiheadAttention, learned
positions, an untied head; two full-width stock hypergraph convolutions over one graph object a token; the plain mean of
the experts, then Linear, GELU and LayerNorm. Ghosts are computed always, multiplied by their activation (0), and are
isolated nodes of the graph. Its known fault is kept: hyperedges are numbered as if there were as many as experts, so
with more hyperedges than experts messages cross from token to token. All parameters are trained here; it trained the
experts alone. It shipped with dropout 0.1.

Legend: B batch, T time, N = B x T tokens, E experts (ghosts last), D d_model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch as GraphBatch  # type: ignore[import-untyped]
from torch_geometric.data import Data
from torch_geometric.nn import HypergraphConv  # type: ignore[import-untyped]

from benchmarks.training_step import Shape
from moe_hub.architectures import hyperedges


class Block(nn.Module):
    """A pre-norm transformer block, its residuals included."""

    def __init__(self, d_model: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = nn.MultiheadAttention(d_model, heads, dropout=dropout, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(d_model),
            nn.Linear(d_model, 4 * d_model),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * d_model, d_model),
            nn.Dropout(dropout),
        )

    def forward(self, x_BTD: Tensor, blocked_TT: Tensor) -> Tensor:
        seen_BTD = self.attention_norm(x_BTD)
        x_BTD = x_BTD + self.attention(seen_BTD, seen_BTD, seen_BTD, attn_mask=blocked_TT, need_weights=False)[0]
        delta_BTD: Tensor = self.feed_forward(x_BTD)
        return x_BTD + delta_BTD


class Coupler(nn.Module):
    """One graph object a token, all pairs of the primary experts as hyperedges, two convolutions, mean, combiner."""

    def __init__(self, experts: int, d_model: int) -> None:
        super().__init__()
        pairs = [(node, edge) for edge, members in enumerate(hyperedges("all_pairs", experts)) for node in members]
        self.hyperedge_index = torch.tensor(pairs).T.contiguous()
        self.convolutions = nn.ModuleList(HypergraphConv(d_model, d_model) for _ in range(2))
        self.combiner = nn.Sequential(nn.Linear(d_model, d_model), nn.GELU(), nn.LayerNorm(d_model))

    def forward(self, expert_BTED: Tensor) -> Tensor:
        # The key `edge_index` makes Batch shift hyperedge numbers by the number of nodes: the fault named above.
        graphs = [Data(x=node_ED, edge_index=self.hyperedge_index) for node_ED in expert_BTED.flatten(0, 1)]
        graph = GraphBatch.from_data_list(graphs)
        x = graph.x
        for convolution in self.convolutions:
            x = convolution(x, graph.edge_index)
        combined_BTD: Tensor = self.combiner(x.view_as(expert_BTED).mean(2))
        return combined_BTD


class Layer(nn.Module):
    """x + Coupler(all experts of x)."""

    def __init__(self, experts: int, ghosts: int, d_model: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.experts = nn.ModuleList(Block(d_model, heads, dropout) for _ in range(experts))
        self.ghosts = nn.ModuleList(Block(d_model, heads, dropout) for _ in range(ghosts))
        self.coupler = Coupler(experts, d_model)

    def forward(self, x_BTD: Tensor, blocked_TT: Tensor) -> Tensor:
        outputs = [expert(x_BTD, blocked_TT) for expert in self.experts]
        outputs += [0.0 * ghost(x_BTD, blocked_TT) for ghost in self.ghosts]
        coupled_BTD: Tensor = self.coupler(torch.stack(outputs, dim=2))
        return x_BTD + coupled_BTD


class FirstModel(nn.Module):
    """Embedding with learned positions, layers, norm, untied head; logits (B, T, V)."""

    def __init__(self, shape: Shape, experts: int, ghosts: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        d_model, vocab = shape.d_model, shape.vocab
        self.embedding = nn.Embedding(vocab, d_model)
        self.position = nn.Embedding(shape.length, d_model)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(experts, ghosts, d_model, shape.heads, dropout) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, vocab)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, input_ids_BT: Tensor) -> Tensor:
        length = input_ids_BT.shape[1]
        blocked_TT = torch.ones(length, length, dtype=torch.bool).triu(1)
        x_BTD = self.dropout(self.embedding(input_ids_BT) + self.position.weight[:length])
        for layer in self.layers:
            x_BTD = layer(x_BTD, blocked_TT)
        logits_BTV: Tensor = self.head(self.norm(x_BTD))
        return logits_BTV
