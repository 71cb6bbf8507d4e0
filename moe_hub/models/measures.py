"""What is measured inside a layer: overlap, similarity, effective rank, load and specialization of its experts.

Legend: E experts, N tokens, D d_model. All in fp32, on at most `SAMPLE` tokens: enough for two digits, and a Gram
matrix per token costs E^2 D.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLE = 256


def sample_tokens(x_END: Tensor) -> Tensor:
    """Every (N / SAMPLE)-th token, without randomness, in fp32."""
    stride = max(1, x_END.shape[1] // SAMPLE)
    return x_END[:, ::stride][:, :SAMPLE].float()


def cosine_gram(delta_END: Tensor) -> Tensor:
    """Cosines between the experts' deltas for each token, (N, E, E)."""
    unit_NED = F.normalize(delta_END, dim=-1, eps=1e-12).transpose(0, 1)
    return unit_NED @ unit_NED.transpose(1, 2)


def overlap(delta_END: Tensor) -> Tensor:
    """Mean squared cosine over pairs and tokens (MSO), in [0, 1]; independent deltas give 1/D."""
    gram_NEE = cosine_gram(delta_END)
    experts = gram_NEE.shape[1]
    square = gram_NEE.square().mean(0)
    return (square.sum() - square.diagonal().sum()) / (experts * (experts - 1))


def normalised_overlap(delta_END: Tensor) -> Tensor:
    """(MSO - 1/D) / (1 - 1/D): 0 for independent deltas, 1 for collapsed ones."""
    null = 1 / delta_END.shape[-1]
    return (overlap(delta_END) - null) / (1 - null)


def similarity(delta_END: Tensor) -> Tensor:
    """Mean cosine between experts' deltas (E, E), in [-1, 1]; independent deltas give 0 off the diagonal."""
    return cosine_gram(delta_END).mean(0)


def effective_rank(delta_END: Tensor) -> Tensor:
    """exp(entropy of the normalised eigenvalues) of the mean cosine Gram, in [1, E] (Roy and Vetterli 2007)."""
    values = torch.linalg.eigvalsh(similarity(delta_END)).clamp(min=0)
    share = values / values.sum().clamp(min=1e-12)
    rank: Tensor = torch.special.entr(share).sum().exp()
    return rank


def specialization(gate_NE: Tensor) -> Tensor:
    """Normalised mutual information of token and expert, [H(mean pi) - mean H(pi)] / ln E, in [0, 1].

    A gate that treats all tokens alike gives 0; one that sends each token to one expert, evenly over experts, 1.
    """
    entropy_of_mean = torch.special.entr(gate_NE.mean(0)).sum()
    mean_entropy = torch.special.entr(gate_NE).sum(-1).mean()
    share: Tensor = (entropy_of_mean - mean_entropy) / math.log(gate_NE.shape[1])
    return share.clamp(0, 1)


def load_share(contribution_END: Tensor) -> Tensor:
    """Share of each expert in the layer's output, by mean length of its contribution, (E,), sums to 1."""
    length_E: Tensor = contribution_END.norm(dim=-1).mean(1)
    return length_E / length_E.sum().clamp(min=1e-12)
