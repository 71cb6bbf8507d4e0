"""hgnn: experts that exchange messages over a hypergraph with learned edge weights (see coupling.py)."""

from __future__ import annotations

from moe_hub.config.model import ModelConfig
from moe_hub.models.coupling import HypergraphCoupling
from moe_hub.models.layer import ExpertLayer


class HgnnLayer(ExpertLayer):
    """y = x + sum_e pi_e(x) C(D)_e."""

    def __init__(self, settings: ModelConfig, index: int) -> None:
        super().__init__(settings, index, settings.num_experts, coupling=HypergraphCoupling)
