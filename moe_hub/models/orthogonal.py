"""orthogonal: hgnn whose experts are held apart by a loss, with one adaptive weight per layer.

Legend: E experts, N tokens, D d_model, l layer.

    MSO_l = mean over pairs and tokens of cos^2(D_i, D_j), before coupling; independent experts give 1/D
    L     = sum_l gamma^l lambda_l max(MSO_l - o*, 0)                    o* = 2/D unless set
    lambda <- clip(lambda exp(kappa (mean(MSO) - o*) / max(o*, 1/D)), lambda_min, lambda_max)

The controller acts on a running mean after each optimizer step; its state lies in buffers. With target `weights` the
rows of the feed-forward input weights take the place of the deltas. With the loss `gram_identity`

    GI_l = ||G - I||_F^2 / (E (E - 1)),   G = mean over tokens of the cosine Gram (E, E)
    L    = sum_l gamma^l lambda_l GI_l

takes the place of MSO, for the controller too. It is the loss of that name in the first implementation (aggregation
`pool`), of unit vectors and over its largest value, without which it has no scale. Independent experts give 0.

Related: OMoE (arXiv 2310.09762), expert orthogonality and variance losses (arXiv 2505.22323); against: arXiv
2601.00457.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from moe_hub.config.model import ModelConfig, OrthogonalConfig
from moe_hub.models import measures
from moe_hub.models.attention import Context
from moe_hub.models.base import Record, Terms
from moe_hub.models.coupling import HypergraphCoupling
from moe_hub.models.layer import ExpertLayer
from moe_hub.models.record import LayerRecord, at_least_fp32
from moe_hub.models.shared_tokens import same_everywhere, shared


class OverlapController(nn.Module):
    """The weight lambda of one layer's diversity loss, and what moves it."""

    weight: Tensor
    average: Tensor
    multiplier: Tensor

    def __init__(self, settings: OrthogonalConfig, d_model: int) -> None:
        super().__init__()
        self.settings = settings
        thresholded = settings.loss == "overlap"
        self.independent = 1 / d_model  # the least target that the controller's step is relative to
        self.null = self.independent if thresholded else 0.0
        self.target = 2 / d_model if settings.target_overlap is None else settings.target_overlap
        self.tolerated = self.target if thresholded else 0.0
        first = 0.0 if settings.warmup_steps else schedule_multiplier(settings.schedule, 0.0)
        self.register_buffer("weight", torch.tensor(settings.initial_weight))
        self.register_buffer("average", torch.tensor(self.null))
        self.register_buffer("multiplier", torch.tensor(first))

    def measured(self, vectors_END: Tensor) -> Tensor:
        """MSO, or GI where the loss is `gram_identity`."""
        form = measures.overlap if self.settings.loss == "overlap" else measures.gram_distance
        return form(vectors_END)

    def loss(self, overlap: Tensor) -> Tensor:
        """lambda times the overlap above the target; `gram_identity`: times all of it."""
        return self.weight * self.multiplier * (overlap - self.tolerated).clamp(min=0)

    @torch.no_grad()
    def update(self, overlap: Tensor, step: int, progress: float) -> None:
        """Takes in the overlap of the `step`-th training step; `progress` is the share of the run that is done."""
        settings = self.settings
        rate = max(1 / step, 1 - settings.average_decay)  # a plain mean at first, then a running one
        self.average.lerp_(overlap.to(self.average), rate)
        if settings.controller_gain:
            push = settings.controller_gain * (self.average - self.target) / max(self.target, self.independent)
            self.weight.mul_(push.exp()).clamp_(settings.min_weight, settings.max_weight)
        warm = min(1.0, step / settings.warmup_steps) if settings.warmup_steps else 1.0
        self.multiplier.fill_(warm * schedule_multiplier(settings.schedule, progress))


def schedule_multiplier(schedule: str, progress: float) -> float:
    """Factor in [0, 1] at a share of the run: constant 1; down to 0 as a cosine, a line, exp(-5 p), or 1, 1/2, 1/4."""
    return {
        "constant": 1.0,
        "cosine": (1 + math.cos(math.pi * progress)) / 2,
        "linear": 1 - progress,
        "exponential": math.exp(-5 * progress),
        "step": 0.5 ** min(2, int(3 * progress)),
    }[schedule]


class OrthogonalLayer(ExpertLayer):
    """`HgnnLayer` with a diversity loss; the function itself is the same."""

    def __init__(self, settings: ModelConfig, index: int) -> None:
        super().__init__(settings, index, settings.num_experts, coupling=HypergraphCoupling)
        self.depth_factor = settings.orthogonal.depth_scale**index
        self.on_weights = settings.orthogonal.target == "weights"
        if settings.num_experts > 1:
            self.controller = OverlapController(settings.orthogonal, settings.d_model)

    def observe(self, record: Record, context: Context) -> Terms:
        """The diversity loss `orthogonality`, bare as the normalised overlap; and its overlap for the controller."""
        assert isinstance(record, LayerRecord)
        if self.controller is None:
            return {}
        delta_END = record.delta_END
        if self.on_weights:
            with shared(None):
                overlap = self.controller.measured(self.sampled_inputs())
            overlap = same_everywhere(overlap)
        else:
            index_N = context.sample(delta_END.device)
            overlap = self.controller.measured(at_least_fp32(delta_END[:, index_N]))
        self.statistics.append(overlap.detach())
        null = self.controller.null
        bare = ((overlap - null) / (1 - null)).clamp(min=0)
        return {"orthogonality": (bare, self.depth_factor * self.controller.loss(overlap))}
