"""What is measured inside a layer: overlap, similarity, effective rank, load and specialization of its experts.

Legend: E experts, N tokens, D d_model. All in fp32, on a sample of the tokens: a Gram matrix per token costs E^2 D.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from moe_hub.models.shared_tokens import every_token, per_token

CKA_TOKENS = 128  # the standard error of independent outputs is then about 0.01
RIDGE = 1e-10  # on the Gram matrix of unit vectors: a direction much shorter than its root counts as none


def cosine_gram(delta_END: Tensor) -> Tensor:
    """Cosines between the experts' deltas for each token, (N, E, E)."""
    unit_NED = F.normalize(delta_END, dim=-1, eps=1e-12).transpose(0, 1)
    return unit_NED @ unit_NED.transpose(1, 2)


def overlap(delta_END: Tensor) -> Tensor:
    """Mean squared cosine over pairs and tokens (MSO), in [0, 1]; independent deltas give 1/D."""
    gram_NEE = cosine_gram(delta_END)
    experts = gram_NEE.shape[1]
    square = per_token(gram_NEE.square().sum(0), len(gram_NEE))
    return (square.sum() - square.diagonal().sum()) / (experts * (experts - 1))


def normalised_overlap(delta_END: Tensor) -> Tensor:
    """(MSO - 1/D) / (1 - 1/D): 0 for independent deltas, 1 for collapsed ones."""
    null = 1 / delta_END.shape[-1]
    return (overlap(delta_END) - null) / (1 - null)


def similarity(delta_END: Tensor) -> Tensor:
    """Mean cosine between experts' deltas (E, E), in [-1, 1]; independent deltas give 0 off the diagonal."""
    unit_EN = F.normalize(delta_END, dim=-1, eps=1e-12).flatten(1)
    return per_token(unit_EN @ unit_EN.T, delta_END.shape[1])


def linear_cka(delta_END: Tensor) -> Tensor:
    """Linear centred kernel alignment of the experts' outputs (E, E), in [-1, 1]; independent outputs give 0.

    Kornblith et al. 2019 (arXiv 1905.00414): HSIC(X X^T, Y Y^T) over the root of both with themselves, 1 where outputs
    differ by an orthogonal map and a factor. HSIC without bias (Song et al. 2012; Nguyen et al. 2021, arXiv
    2010.15327, eq. 3), as the cosine of U-centred Gram matrices: the plain estimate of independent outputs is
    D / (N + D), not 0. Not finite for fewer than 4 tokens; 0 for an output that does not vary. On at most about
    `CKA_TOKENS` of them, for Gram matrices grow with their square.
    """
    delta_END = every_token(delta_END)
    delta_END = delta_END[:, :: max(1, delta_END.shape[1] // CKA_TOKENS)]
    tokens = delta_END.shape[1]
    if tokens < 4:
        return delta_END.new_full((len(delta_END), len(delta_END)), math.nan)
    centred_END = delta_END - delta_END.mean(1, keepdim=True)  # changes nothing but the rounding
    centred_END = centred_END / centred_END.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1)
    gram_ENN = centred_END @ centred_END.transpose(1, 2)
    gram_ENN.diagonal(dim1=1, dim2=2).zero_()
    row_EN1 = gram_ENN.sum(2, keepdim=True) / (tokens - 2)
    gram_ENN += row_EN1.sum(1, keepdim=True) / (tokens - 1) - row_EN1 - row_EN1.transpose(1, 2)
    gram_ENN.diagonal(dim1=1, dim2=2).zero_()
    unit_EM = F.normalize(gram_ENN.flatten(1), dim=1, eps=1e-12)
    return unit_EM @ unit_EM.T


def gram_distance(delta_END: Tensor) -> Tensor:
    """||G - I||_F^2 / (E (E - 1)) with G the mean cosines of `similarity`, in [0, 1]: 0 orthogonal, 1 identical.

    Signs cancel over tokens before the square, so independent deltas give 1 / (N D), which is 0 for many tokens. The
    distance is that of soft orthogonality (Bansal et al. 2018, arXiv 1810.09102), over its largest value.
    """
    gram_EE = similarity(delta_END)
    experts = len(gram_EE)
    return (gram_EE.square().sum() - gram_EE.diagonal().square().sum()) / (experts * (experts - 1))


def effective_rank(gram_EE: Tensor) -> Tensor:
    """exp(entropy of the normalised eigenvalues) of a Gram matrix, in [1, E] (Roy and Vetterli 2007)."""
    values = torch.linalg.eigvalsh(gram_EE).clamp(min=0)
    share = values / values.sum().clamp(min=1e-12)
    rank: Tensor = torch.special.entr(share).sum().exp()
    return rank


def outside_span(delta_END: Tensor, pull_ND: Tensor) -> Tensor:
    """Sums over tokens of ||r - P r||^2 and ||r||^2, (2,), P the projection on the span of a token's E deltas.

    Their quotient is the fraction of variance unexplained of r, in [0, 1], when each token may mix its experts anew;
    independent directions give 1 - E/D. Sums, so that tokens and batches count by their ||r||^2. P r = D^T c with
    (D D^T + ridge) c = D r on unit vectors, in float64 where the device has it: a span may lack directions. Copies of
    an expert that differ by rounding alone span none: the ridge is not below the square of the deltas' precision.
    """
    dtype = torch.float32 if delta_END.device.type == "mps" else torch.float64
    ridge = max(RIDGE, torch.finfo(delta_END.dtype).eps ** 2, 100 * torch.finfo(dtype).eps)
    unit_NED = F.normalize(delta_END.to(dtype), dim=-1, eps=1e-30).transpose(0, 1)
    pull_ND1 = pull_ND.to(dtype).unsqueeze(-1)
    ridge_EE = ridge * torch.eye(len(delta_END), dtype=dtype, device=delta_END.device)
    factor_NEE, _ = torch.linalg.cholesky_ex(unit_NED @ unit_NED.transpose(1, 2) + ridge_EE)
    mix_NE1 = torch.cholesky_solve(unit_NED @ pull_ND1, factor_NEE)
    rest_ND1 = pull_ND1 - unit_NED.transpose(1, 2) @ mix_NE1
    return torch.stack((rest_ND1.square().sum(), pull_ND1.square().sum()))


def first_implementation(stream_ND: Tensor, delta_END: Tensor) -> tuple[Tensor, Tensor]:
    """What the first implementation judged saturation by: cosines (E, E) of the experts' mean outputs, and a variance.

    Output e is x + D_e; its mean is over tokens. The variance is that of all entries of x - mean_e (x + D_e).
    """
    mean_ED = per_token((stream_ND + delta_END).sum(1), delta_END.shape[1])
    unit_ED = F.normalize(mean_ED, dim=-1, eps=1e-12)
    rest_ND = delta_END.mean(0)
    centre = per_token(rest_ND.sum(), rest_ND.numel())
    return unit_ED @ unit_ED.T, per_token((rest_ND - centre).square().sum(), rest_ND.numel())


def specialization(gate_NE: Tensor) -> Tensor:
    """Normalised mutual information of token and expert, [H(mean pi) - mean H(pi)] / ln E, in [0, 1].

    A gate that treats all tokens alike gives 0; one that sends each token to one expert, evenly over experts, 1.
    """
    gate_NE = gate_NE.clamp(min=1e-30)  # a share that underflowed to 0 would have an infinite slope
    totals = torch.cat((gate_NE.sum(0), torch.special.entr(gate_NE).sum().unsqueeze(0)))
    *_, mean_entropy = means = per_token(totals, len(gate_NE))
    entropy_of_mean = torch.special.entr(means[:-1]).sum()
    share: Tensor = (entropy_of_mean - mean_entropy) / math.log(gate_NE.shape[1])
    return share.clamp(0, 1)


def gate_entropy(gate_NE: Tensor) -> Tensor:
    """Mean entropy of the gate over the tokens, as a share of ln E: 1 undecided, 0 one expert a token."""
    return per_token(torch.special.entr(gate_NE).sum(), len(gate_NE)) / math.log(gate_NE.shape[1])


def load_share(length_EN: Tensor) -> Tensor:
    """Share of each expert in the layer's output, by mean length of its contribution, (E,), sums to 1."""
    length_E = per_token(length_EN.sum(1), length_EN.shape[1])
    return length_E / length_E.sum().clamp(min=1e-12)


def utilization(length_EN: Tensor, num_experts: int) -> Tensor:
    """Share of the tokens to which each expert gives at least half of an even share (1 / 2E) of the output, (E,)."""
    share_EN = length_EN / length_EN.sum(0).clamp(min=1e-12)
    used_E = (share_EN >= 0.5 / num_experts).to(length_EN.dtype).sum(1)
    return per_token(used_E, length_EN.shape[1])
