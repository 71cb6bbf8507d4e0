"""One layer: experts, their coupling, and the readout that adds them to the residual stream.

    y = x + sum_e pi_e(x) C(D)_e        D_e = the delta of expert e, C = coupling, pi = readout

Legend: E experts, B batch, T time, N = B x T tokens, D d_model, P rotation dims.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_hub.config import ModelConfig
from moe_hub.models.coupling import HypergraphCoupling
from moe_hub.models.expert import Context, StackedAttention, StackedFeedForward, norm
from moe_hub.models.measures import sample_tokens
from moe_hub.models.rotation import fold_givens, rotate_by_phase
from moe_hub.models.router import SoftGate


@dataclass(frozen=True)
class LayerRecord:
    """What a layer leaves for measurement: sampled deltas, sampled contributions, and the gate (None: mean)."""

    delta_END: Tensor
    contribution_END: Tensor
    gate_NE: Tensor | None


class ExpertLayer(nn.Module):
    """A layer of `num_experts` experts; `coupled` and `rotated` switch the parts of an architecture on."""

    def __init__(self, settings: ModelConfig, num_experts: int, *, coupled: bool, rotated: bool) -> None:
        super().__init__()
        d_model = settings.d_model
        self.scope = settings.scope
        self.num_experts = num_experts
        self.dropout = settings.dropout
        out_std = 0.02 / (2 * settings.num_layers) ** 0.5
        attention_stack = num_experts if self.scope == "block" else 1
        self.attention = StackedAttention(attention_stack, d_model, settings.num_heads, out_std, settings.dropout)
        self.feed_forward = StackedFeedForward(num_experts, d_model, out_std, settings.dropout)
        several = num_experts > 1
        self.gate = SoftGate(num_experts, d_model) if several and settings.readout == "gate" else None
        rounds = settings.coupling.num_layers if coupled and several and settings.coupling.scale > 0 else 0
        self.coupling = nn.ModuleList(
            HypergraphCoupling(settings.coupling, num_experts, d_model, out_std) for _ in range(rounds)
        )
        self.theta_EP = nn.Parameter(torch.zeros(num_experts, settings.geometric.rotation_dims)) if rotated else None

    def reset_parameters(self) -> None:
        """No rotation at the start."""
        if self.theta_EP is not None:
            nn.init.zeros_(self.theta_EP)

    def forward(self, x_BTD: Tensor, context: Context) -> tuple[Tensor, LayerRecord]:
        x_BTD, delta_END, gate_in_BTD = self._deltas(x_BTD, context)
        coupled_END = delta_END
        for coupling in self.coupling:
            coupled_END = coupling(coupled_END)
        coupled_END = F.dropout(coupled_END, self.dropout, self.training)
        gate_NE = self.gate(gate_in_BTD.flatten(0, 1)) if self.gate is not None else None
        contribution_END = self._weigh(coupled_END, gate_NE)
        y_BTD = x_BTD + contribution_END.sum(0).view_as(x_BTD)
        return y_BTD, LayerRecord(delta_END, contribution_END, gate_NE)

    def hyperedge_weights(self) -> Tensor | None:
        """Weights (H,) of the first coupling; None where nothing is coupled."""
        for coupling in self.coupling:
            if isinstance(coupling, HypergraphCoupling) and coupling.edges:
                return coupling.edge_weights()
        return None

    def _deltas(self, x_BTD: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """The stream after any shared part, the experts' deltas, and the input of the gate."""
        seen_BTD = norm(x_BTD)
        turned_BTD = self._turn(seen_BTD, context)
        if self.scope == "block":
            u_END = self.attention(turned_BTD, self._fold(self.attention.qkv_EOD), context)
            inner_END = norm(x_BTD.flatten(0, 1) + u_END)
            inner_END = self._turn(inner_END.view(-1, *x_BTD.shape), context).flatten(1, 2)
            out_END = self.feed_forward(inner_END, self._fold(self.feed_forward.w1_EFD))
            return x_BTD, u_END + out_END, seen_BTD
        x_BTD = x_BTD + self.attention(seen_BTD, self.attention.qkv_EOD, context).view_as(x_BTD)
        seen_BTD = norm(x_BTD)
        inner_END = self._turn(seen_BTD, context).flatten(0, 1).expand(self.num_experts, -1, -1)
        return x_BTD, self.feed_forward(inner_END, self._fold(self.feed_forward.w1_EFD)), seen_BTD

    def _weigh(self, coupled_END: Tensor, gate_NE: Tensor | None) -> Tensor:
        if gate_NE is None:
            return coupled_END / self.num_experts
        return coupled_END * gate_NE.T.unsqueeze(-1).to(coupled_END.dtype)

    def _fold(self, weight_EOD: Tensor) -> Tensor:
        return weight_EOD if self.theta_EP is None else fold_givens(weight_EOD, self.theta_EP)

    def _turn(self, x: Tensor, context: Context) -> Tensor:
        if context.phase_cos_BT1 is None or context.phase_sin_BT1 is None:
            return x
        return rotate_by_phase(x, context.phase_cos_BT1, context.phase_sin_BT1)


def sampled(record: LayerRecord) -> LayerRecord:
    """The record on at most 256 tokens, fp32."""
    return LayerRecord(sample_tokens(record.delta_END), sample_tokens(record.contribution_END), record.gate_NE)
