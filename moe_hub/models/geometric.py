"""geometric: hgnn in which expert e reads R_e x under its own learned rotation (see rotation.py).

Geometric Constrained Learning holds the experts nearly fixed (a low learning rate, or `freeze_experts`) and
learns the rotations of the data that they see. With `share_experts` there is one set of expert weights, and the
experts differ by their rotation alone.
"""

from __future__ import annotations

from moe_hub.config.model import ModelConfig
from moe_hub.models.coupling import HypergraphCoupling
from moe_hub.models.layer import ExpertLayer


class GeometricLayer(ExpertLayer):
    """y = x + sum_e pi_e(x) C(D(R x))_e; theta = 0 is `HgnnLayer` on the same weights exactly."""

    def __init__(self, settings: ModelConfig, index: int) -> None:
        geometric = settings.geometric
        super().__init__(
            settings,
            index,
            settings.num_experts,
            coupling=HypergraphCoupling,
            rotated=True,
            shared=geometric.share_experts,
            orthonormal=geometric.expert_init == "orthogonal",
        )
        if geometric.freeze_experts:
            self.feed_forward.requires_grad_(False)
            if self.blocks:
                self.attention.requires_grad_(False)
