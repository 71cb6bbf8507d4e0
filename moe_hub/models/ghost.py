"""ghost: hgnn with dormant experts that wake when the others are saturated (see ghost_experts.py, saturation.py).

With a_g in [0, 1] the activation of ghost g, hyperedges count w_e prod_{g in e} a_g, and the gate counts ghost g a_g
times. While all ghosts are dormant the layer is `HgnnLayer` to the last bit.
"""

from __future__ import annotations

from moe_hub.config.model import ModelConfig
from moe_hub.models.coupling import HypergraphCoupling
from moe_hub.models.layer import ExpertLayer


class GhostLayer(ExpertLayer):
    """y = x + sum_e pi_e(x) C(D)_e + sum_g pi_g(x) C(D)_g."""

    def __init__(self, settings: ModelConfig, index: int) -> None:
        super().__init__(settings, index, settings.num_experts, coupling=HypergraphCoupling)
