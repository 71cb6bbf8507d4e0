"""One layer: experts, their coupling, and the readout that adds them to the residual stream.

    y = x + sum_e pi_e(x) C(D)_e        D_e = the delta of expert e, C = coupling, pi = readout

Legend: E experts, A awake ghosts, B batch, T time, N = B x T tokens, D d_model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_hub.architectures import coupling_rounds
from moe_hub.config.model import ModelConfig
from moe_hub.models import measures
from moe_hub.models.attention import SAMPLE, Context, StackedAttention, attention
from moe_hub.models.base import Layer, Record, Terms
from moe_hub.models.coupling import AwakeGhosts, Coupling, HypergraphCoupling
from moe_hub.models.expert import ExpertSettings, ExpertWeights, StackedFeedForward, expert_deltas
from moe_hub.models.fused import weighted_sum
from moe_hub.models.ghost_experts import Ghosts
from moe_hub.models.pointwise import norm
from moe_hub.models.record import GhostRecord, LayerRecord, at_least_fp32
from moe_hub.models.rotation import build_rotation
from moe_hub.models.router import SoftGate, ghost_shares
from moe_hub.models.shared_tokens import shared, sharing


class ExpertLayer(Layer):
    """A layer of E experts that all see every token; the arguments switch the parts of an architecture on.

    `shared` experts have one set of weights, and a rotation each that begins at a base angle of 2 pi e / E;
    `orthonormal` ones begin with input weights whose columns are. `index` is the layer's place, from 0.
    """

    def __init__(
        self,
        settings: ModelConfig,
        index: int,
        num_experts: int,
        *,
        coupling: Callable[[ModelConfig, int, float], Coupling] | None = None,
        rotated: bool = False,
        shared: bool = False,
        orthonormal: bool = False,
    ) -> None:
        super().__init__(index, num_experts)
        d_model = settings.d_model
        self.in_training = ExpertSettings(settings.num_heads, settings.rope_base, settings.dropout)
        self.in_evaluation = ExpertSettings(settings.num_heads, settings.rope_base, 0.0)
        self.blocks = settings.scope == "block"
        out_std = 0.02 / (2 * settings.num_layers) ** 0.5
        stack = 1 if shared else num_experts
        if self.blocks:
            self.attention = StackedAttention(stack, d_model, out_std, orthonormal=orthonormal)
        else:
            self.shared_attention = StackedAttention(1, d_model, out_std)
        self.feed_forward = StackedFeedForward(stack, d_model, out_std, orthonormal=orthonormal)
        gated = num_experts > 1 and settings.readout == "gate"
        self.gate = SoftGate(num_experts, d_model) if gated else None
        rounds = coupling_rounds(settings) if coupling is not None else 0
        built = [coupling(settings, num_experts, out_std) for _ in range(rounds)] if coupling is not None else []
        self.coupling = nn.ModuleList(built)
        base_E = torch.arange(num_experts) * (2 * torch.pi / num_experts) if shared else None
        if rotated:
            self.rotation = build_rotation(settings, num_experts, base_E)
        if settings.num_ghosts:
            self.ghosts = Ghosts(settings, index, rotated=rotated, rounds=rounds)

    @property
    def rounds(self) -> list[Coupling]:
        """The message passing rounds."""
        return [coupling for coupling in self.coupling if isinstance(coupling, Coupling)]

    def forward(self, x_BTD: Tensor, context: Context) -> tuple[Tensor, LayerRecord]:
        options = self.in_training if self.training else self.in_evaluation
        seen_BTD = norm(x_BTD)
        if not self.blocks:
            x_BTD = x_BTD + self._shared_attention(seen_BTD, context, options).view_as(x_BTD)
            seen_BTD = norm(x_BTD)
        delta_END = expert_deltas(x_BTD, seen_BTD, self.weights(), context, self.index, options)
        awake = self.ghosts.awake() if self.ghosts is not None else ()
        ghost_AND = None
        if self.ghosts is not None and awake:
            ghost_AND = self.ghosts.deltas(x_BTD, seen_BTD, context, options, awake)
        coupled_END, ghost_AND = self._couple(delta_END, ghost_AND, awake)
        record = self._record(seen_BTD.flatten(0, 1), delta_END, coupled_END, ghost_AND, awake, options.dropout)
        y_BTD = x_BTD + self._readout(record).view_as(x_BTD)
        if self.ghosts is not None and self.training and torch.is_grad_enabled():
            self.ghosts.learn_in_background(x_BTD, seen_BTD, y_BTD, context)
            if self.ghosts.saturation.measure == "fvu_grad":
                index_N = context.sample(delta_END.device)
                self.ghosts.saturation.follow_gradient(delta_END.detach()[:, index_N], y_BTD, index_N)
            elif self.ghosts.saturation.measure == "legacy":
                record = replace(record, stream_ND=x_BTD.detach().flatten(0, 1))
        return y_BTD, record

    def weights(self) -> ExpertWeights:
        """The experts' weights, rotations folded in."""
        w1_EFD: Tensor = self.feed_forward.w1_EFD
        w2_EDF: Tensor = self.feed_forward.w2_EDF
        if not self.blocks:
            if self.rotation is not None:
                (w1_EFD,) = self.rotation.fold(w1_EFD)
            return ExpertWeights(w1_EFD, w2_EDF.expand(self.num_experts, -1, -1))
        qkv_EOD: Tensor = self.attention.qkv_EOD
        out_EDD: Tensor = self.attention.out_EDD
        if self.rotation is not None:
            qkv_EOD, w1_EFD = self.rotation.fold(qkv_EOD, w1_EFD)
        experts = self.num_experts
        return ExpertWeights(w1_EFD, w2_EDF.expand(experts, -1, -1), qkv_EOD, out_EDD.expand(experts, -1, -1))

    def _shared_attention(self, seen_BTD: Tensor, context: Context, options: ExpertSettings) -> Tensor:
        return attention(
            seen_BTD, self.shared_attention.qkv_EOD, self.shared_attention.out_EDD, context, self.index,
            options.num_heads, options.rope_base, options.dropout,
        )  # fmt: skip

    def _couple(
        self, delta_END: Tensor, ghost_AND: Tensor | None, awake: tuple[int, ...]
    ) -> tuple[Tensor, Tensor | None]:
        for number, coupling in enumerate(self.rounds):
            if ghost_AND is None or self.ghosts is None or not isinstance(coupling, HypergraphCoupling):
                delta_END = coupling(delta_END)
                continue
            index_A = torch.tensor(awake, device=delta_END.device)
            outputs_ARD = self.ghosts.coupling_outputs(awake, number)
            ghosts = AwakeGhosts(index_A, ghost_AND, self.ghosts.activation_G, outputs_ARD)
            delta_END, ghost_AND = coupling.with_ghosts(delta_END, ghosts)
        return delta_END, ghost_AND

    def _record(
        self, seen_ND: Tensor, delta_END: Tensor, coupled_END: Tensor, ghost_AND: Tensor | None,
        awake: tuple[int, ...], dropout: float,
    ) -> LayerRecord:  # fmt: skip
        if dropout:
            coupled_END = F.dropout(coupled_END, dropout)
            ghost_AND = None if ghost_AND is None else F.dropout(ghost_AND, dropout)
        gate_NE, logits_NE = self.gate(seen_ND) if self.gate is not None else (None, None)
        share_NE = gate_NE
        if share_NE is None:
            share_NE = at_least_fp32(seen_ND).new_full((1, self.num_experts), 1 / self.num_experts)
        num_ghosts = len(self.ghosts.states()) if self.ghosts is not None else 0
        ghosts = None
        if ghost_AND is not None and self.ghosts is not None:
            ghosts = GhostRecord(ghost_AND, self._ghost_shares(self.ghosts, seen_ND, logits_NE, awake), awake)
        return LayerRecord(delta_END, coupled_END, share_NE, gate_NE, num_ghosts, ghosts)

    def _ghost_shares(
        self, ghosts: Ghosts, seen_ND: Tensor, logits_NE: Tensor | None, awake: tuple[int, ...]
    ) -> Tensor:
        activation_A = at_least_fp32(ghosts.activation_G)[list(awake)]
        if logits_NE is None:
            return (activation_A / (self.num_experts + activation_A.sum())).unsqueeze(0)
        return ghost_shares(logits_NE, ghosts.gate_logits(seen_ND, awake), activation_A)

    @staticmethod
    def _readout(record: LayerRecord) -> Tensor:
        """What the layer adds to each token, (N, D)."""
        said_ND = weighted_sum(record.coupled_END, record.share_NE)
        if record.ghosts is None:
            return said_ND
        # Summed apart, so that a silent ghost does not even change the order in which the experts are added.
        return said_ND + weighted_sum(record.ghosts.coupled_AND, record.ghosts.share_NA)

    def observe(self, record: Record, context: Context) -> Terms:
        """For ghosts: the cosine Gram (E, E) of the experts' deltas that saturation is judged by."""
        assert isinstance(record, LayerRecord)
        if self.ghosts is not None:
            delta_END = record.delta_END.detach()
            index_N = context.sample(delta_END.device)
            if len(index_N) or sharing() is not None:
                picked_END = at_least_fp32(delta_END[:, index_N])
                stream_ND = None if record.stream_ND is None else at_least_fp32(record.stream_ND[index_N])
                self.statistics.append(self.ghosts.saturation.gram(picked_END, stream_ND))
                if self.ghosts.settings.initialization == "clone":
                    length_EN = record.sampled(index_N).contribution_END.detach().norm(dim=-1)
                    self.ghosts.loads.append(measures.load_share(length_EN[: self.num_experts]).float())
        return {}

    def busiest_expert(self) -> ExpertWeights:
        assert self.ghosts is not None
        weights, busiest = self.weights(), int(self.ghosts.load_E.argmax())
        picked = (None if w is None else w[busiest : busiest + 1] for w in vars(weights).values())
        return ExpertWeights(*picked)  # type: ignore[arg-type]

    def overlap(self, record: Record) -> Tensor | None:
        assert isinstance(record, LayerRecord)
        return measures.normalised_overlap(record.delta_END) if self.num_experts > 1 else None

    def specialization(self, record: Record) -> Tensor | None:
        assert isinstance(record, LayerRecord)
        return measures.specialization(record.expert_share()) if self.num_experts > 1 else None

    def sampled_inputs(self) -> Tensor:
        """Some rows of the experts' feed-forward input weights (E, n, D), rotations folded in; differentiable."""
        w1_EFD = self.feed_forward.w1_EFD
        rows_END = w1_EFD[:, :: max(1, w1_EFD.shape[1] // SAMPLE)]
        return rows_END if self.rotation is None else self.rotation.fold(rows_END)[0]

    def measure(self, record: Record) -> dict[str, Tensor]:
        assert isinstance(record, LayerRecord)
        found = self._measure_experts(record) if self.num_experts > 1 else {}
        if self.rotation is not None:
            found |= self.rotation.measure()
        activation_G = None if self.ghosts is None else self.ghosts.activation_G
        for coupling in self.rounds[:1]:
            found |= coupling.measure(record.delta_END, activation_G)
        if self.ghosts is not None:
            found["ghost/contribution"] = found["expert/load"][self.num_experts :]
        return found

    def _measure_experts(self, record: LayerRecord) -> dict[str, Tensor]:
        length_EN = record.contribution_END.norm(dim=-1)
        gram_EE = measures.similarity(record.delta_END)
        with shared(None):
            weight_overlap = measures.normalised_overlap(self.sampled_inputs())
        found = {
            "expert/load": measures.load_share(length_EN),
            "expert/utilization": measures.utilization(length_EN, self.num_experts),
            "expert/similarity": gram_EE,
            "expert/cka": measures.linear_cka(record.delta_END),
            "expert/orthogonality": measures.normalised_overlap(record.delta_END),
            "expert/effective_rank": measures.effective_rank(gram_EE),
            "expert/specialization": measures.specialization(record.expert_share()),
            "expert/weight_overlap": weight_overlap,
        }
        if record.gate_NE is not None:
            found["router/entropy"] = measures.gate_entropy(record.gate_NE)
        return found
