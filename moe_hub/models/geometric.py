"""geometric: hgnn in which expert e reads R_e x under its own learned rotation (see rotation.py).

Geometric Constrained Learning holds the experts nearly fixed (a low learning rate, or `freeze_experts`) and
learns the rotations of the data that they see.
"""

from __future__ import annotations

from moe_hub.config import ModelConfig
from moe_hub.models.layer import ExpertLayer


class GeometricLayer(ExpertLayer):
    """y = x + sum_e pi_e(x) C(D(R x))_e; theta = 0 is `HgnnLayer` exactly."""

    def __init__(self, settings: ModelConfig) -> None:
        super().__init__(settings, settings.num_experts, coupled=True, rotated=True)
        if settings.geometric.freeze_experts:
            self.attention.requires_grad_(False)
            self.feed_forward.requires_grad_(False)
