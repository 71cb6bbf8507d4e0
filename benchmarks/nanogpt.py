"""A GPT equal to nanoGPT's in size, function and recipe, written for comparison from its published description.

The description: Karpathy, nanoGPT, README, "I only have a macbook": tiny-shakespeare characters, 4 layers, 4 heads,
width 128, context 64, batch 12, 2000 iterations, dropout 0, fp32 on the CPU; and its settings for Shakespeare
characters: learning rate 1e-3 falling as a cosine to 1e-4, 100 warm-up iterations, AdamW with betas (0.9, 0.99) and
decay 0.1 on matrices, clip 1, no biases. The GPT: learned positions, LayerNorm before each branch, GELU, one matrix
for embedding and head, weights N(0, 0.02), residual projections N(0, 0.02 / sqrt(2 layers)). It reports 0.80 M
parameters (positions not counted) and a loss of about 1.88, estimated on 20 validation batches.

Legend: B batch, T time, D d_model, V vocab, H heads, K head width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Recipe:
    """Shape and training of the published run."""

    layers: int = 4
    heads: int = 4
    d_model: int = 128
    length: int = 64
    batch: int = 12
    iterations: int = 2000
    learning_rate: float = 1e-3
    min_learning_rate: float = 1e-4
    warm_up: int = 100
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0

    def rate(self, iteration: int) -> float:
        """Learning rate: linear warm-up, then a half cosine down to the minimum at the last iteration."""
        if iteration < self.warm_up:
            return self.learning_rate * (iteration + 1) / (self.warm_up + 1)
        progress = min(1.0, (iteration - self.warm_up) / (self.iterations - self.warm_up))
        fall = 0.5 * (1 + math.cos(math.pi * progress))
        return self.min_learning_rate + fall * (self.learning_rate - self.min_learning_rate)


class Attention(nn.Module):
    """Causal self-attention with torch's fused kernel."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        batch, length, d_model = x_BTD.shape
        qkv = self.qkv(x_BTD).view(batch, length, 3, self.heads, d_model // self.heads)
        q_BHTK, k_BHTK, v_BHTK = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, is_causal=True)
        out_BTD: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, d_model))
        return out_BTD


class TransformerBlock(nn.Module):
    """x + Attention(LN x), then x + MLP(LN x)."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(d_model, bias=False)
        self.attention = Attention(d_model, heads)
        self.norm_2 = nn.LayerNorm(d_model, bias=False)
        self.up = nn.Linear(d_model, 4 * d_model, bias=False)
        self.down = nn.Linear(4 * d_model, d_model, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self.attention(self.norm_1(x_BTD))
        delta_BTD: Tensor = self.down(F.gelu(self.up(self.norm_2(x_BTD))))
        return x_BTD + delta_BTD


class ReferenceGPT(nn.Module):
    """Logits (B, T, V) of ids (B, T)."""

    def __init__(self, recipe: Recipe, vocab: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, recipe.d_model)
        self.position = nn.Embedding(recipe.length, recipe.d_model)
        self.blocks = nn.ModuleList(TransformerBlock(recipe.d_model, recipe.heads) for _ in range(recipe.layers))
        self.norm = nn.LayerNorm(recipe.d_model, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                residual = name.endswith(("attention.out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * recipe.layers) if residual else 0.02)

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTD = self.embedding(ids_BT) + self.position.weight[: ids_BT.shape[1]]
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return F.linear(self.norm(x_BTD), self.embedding.weight)

    def published_count(self) -> int:
        """Parameters as nanoGPT counts them: without the positions."""
        return sum(parameter.numel() for parameter in self.parameters()) - self.position.weight.numel()


def reference_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW as the published code makes it on a CPU (not fused), with decay on matrices alone."""
    parameters = list(model.parameters())
    groups = [
        {"params": [each for each in parameters if each.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [each for each in parameters if each.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas)
