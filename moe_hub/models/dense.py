"""dense: one expert a layer, the ordinary transformer. The baseline of every comparison."""

from __future__ import annotations

from moe_hub.config.model import ModelConfig
from moe_hub.models.layer import ExpertLayer


class DenseLayer(ExpertLayer):
    """y = x + D(x); `num_experts` is not read."""

    def __init__(self, settings: ModelConfig, index: int) -> None:
        super().__init__(settings, index, 1)
