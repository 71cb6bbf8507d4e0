"""The language model that all architectures share: embedding, layers, tied head, loss, and measurement.

Legend: B batch, T time, D d_model, V vocab, L layers, E experts, P rotation dims, S phases.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import ModelOutput

from moe_hub.architectures import ARCHITECTURES
from moe_hub.config import ModelConfig
from moe_hub.models import measures
from moe_hub.models.configuration import MoeHubConfig
from moe_hub.models.expert import Context, norm, rotary_angles
from moe_hub.models.layer import ExpertLayer, LayerRecord, sampled
from moe_hub.models.rotation import givens_matrix, phase_of_token, rotation_cost

PHASES = ("syntax", "reduction", "semantic", "pedagogical")
RIGHT_ANGLES = tuple(phase * math.pi / 2 for phase in range(len(PHASES)))


@dataclass
class LanguageModelOutput(ModelOutput):  # type: ignore[misc]
    """`loss`: mean cross-entropy in nat per predicted token; `logits` (B, T, V); `terms`: see `geometric_terms`."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    terms: dict[str, Tensor] | None = None
    measures: dict[str, Tensor] | None = None


class LanguageModel(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """The model of every architecture; `settings.architecture` names the class of its layers."""

    config_class = MoeHubConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, config: MoeHubConfig) -> None:
        super().__init__(config)
        self.settings = config.settings
        layer_class = class_of_layers(self.settings.architecture)
        self.embedding = nn.Embedding(config.vocab_size, self.settings.d_model)
        self.layers = nn.ModuleList(layer_class(self.settings) for _ in range(self.settings.num_layers))
        if config.cognitive:
            # Angle of each phase at present; the schedule moves it between steps, evaluation never does.
            self.register_buffer("phase_angle_S", torch.tensor(RIGHT_ANGLES))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif callable(reset := getattr(module, "reset_parameters", None)):
            reset()

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    @property
    def stack(self) -> list[ExpertLayer]:
        """The layers, from the first to the last."""
        return cast(list[ExpertLayer], list(self.layers))

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        attention_mask: Tensor | None = None,
        documents: Tensor | None = None,
        measure: bool = False,
        geometric: bool = False,
        **_: Any,
    ) -> LanguageModelOutput:
        """Logits (B, T, V), and the loss where `labels` (B, T; not shifted, -100 ignored) are given.

        `documents` (B, T) numbers the documents packed in a row (0 = padding): no token sees another document.
        `measure` adds the metrics of the layers, detached; `geometric` the differentiable terms of the loss.
        """
        context = self._context(input_ids, documents if documents is not None else attention_mask)
        x_BTD = self.embedding(input_ids)
        records: list[LayerRecord] = []
        for layer in self.stack:
            x_BTD, record = layer(x_BTD, context)
            if measure or geometric:
                records.append(record)
        logits_BTV = F.linear(norm(x_BTD), self.embedding.weight).float()
        several = measure and self.stack[0].num_experts > 1
        return LanguageModelOutput(
            loss=None if labels is None else next_token_loss(logits_BTV, labels),
            logits=logits_BTV,
            terms=self.geometric_terms([sampled(record) for record in records]) if geometric else None,
            measures=self.measure([sampled(record) for record in records]) if several else None,
        )

    def geometric_terms(self, records: list[LayerRecord]) -> dict[str, Tensor]:
        """The terms of the geometric loss, each in [0, 1], mean over layers:

        orthogonality: normalised squared overlap of the deltas; rotation_efficiency: (D - tr R) / 2D;
        specialization: 1 - normalised mutual information of token and expert.
        """
        thetas = self.thetas()
        zero = self.embedding.weight.new_zeros(())
        if self.stack[0].num_experts == 1:  # one expert overlaps with none and is not routed
            records = []
        overlap = [measures.normalised_overlap(record.delta_END).clamp(min=0) for record in records]
        cost = [rotation_cost(theta, self.settings.d_model).mean() for theta in thetas]
        special = [1 - measures.specialization(expert_share(record)) for record in records]
        named = {"orthogonality": overlap, "rotation_efficiency": cost, "specialization": special}
        return {name: torch.stack(values).mean() if values else zero for name, values in named.items()}

    @torch.no_grad()
    def measure(self, records: list[LayerRecord]) -> dict[str, Tensor]:
        """Metrics of all layers, by metric name, detached."""
        delta = [record.delta_END.detach() for record in records]
        found = {
            "expert/load": [measures.load_share(record.contribution_END) for record in records],
            "expert/similarity": [measures.similarity(d) for d in delta],
            "expert/orthogonality": [measures.normalised_overlap(d) for d in delta],
            "expert/effective_rank": [measures.effective_rank(d) for d in delta],
            "expert/specialization": [measures.specialization(expert_share(record)) for record in records],
        }
        result = {name: torch.stack(values) for name, values in found.items()}
        weights = [weight for layer in self.stack if (weight := layer.hyperedge_weights()) is not None]
        if weights:
            result["coupling/hyperedge_weight"] = torch.stack(weights).detach()
        result.update(self._rotation_measures())
        return result

    def thetas(self) -> list[Tensor]:
        """Rotation angles (E, P) of each layer, radians; empty where the architecture has none."""
        return [layer.theta_EP for layer in self.stack if layer.theta_EP is not None]

    def set_phase_weights(self, weight_S: list[float]) -> None:
        """Turns phase s by weight_s x 90 s degrees from now on; only for models made with `cognitive`."""
        angles = torch.tensor(RIGHT_ANGLES) * torch.tensor(weight_S)
        self.phase_angle_S.copy_(angles.to(self.phase_angle_S))

    def _rotation_measures(self) -> dict[str, Tensor]:
        thetas = self.thetas()
        if not thetas:
            return {}
        theta_LEP = torch.stack(thetas).detach().float()
        cost = torch.stack([rotation_cost(theta, self.settings.d_model) for theta in theta_LEP])
        first, second = theta_LEP[0, :, 0], theta_LEP[0, :, 1 % theta_LEP.shape[-1]]
        # R p for the unit vector p = (1, 0, 1, 0, 0, ...) / sqrt 2: its first three coordinates.
        probe_E3 = torch.stack((first.cos(), first.sin(), second.cos()), dim=-1) / math.sqrt(2)
        rotations = [givens_matrix(theta, self.settings.d_model) for theta in theta_LEP]
        identity = torch.eye(self.settings.d_model, device=theta_LEP.device)
        error_L = torch.stack([(r.transpose(1, 2) @ r - identity).abs().max() for r in rotations])
        return {
            "rotation/theta_rad": theta_LEP,
            "rotation/efficiency": cost,
            "rotation/orthogonality_error": error_L,
            "probe/rotated": probe_E3,
        }

    def _context(self, input_ids_BT: Tensor, documents_BT: Tensor | None) -> Context:
        length = input_ids_BT.shape[1]
        head_width = self.settings.d_model // self.settings.num_heads
        cos, sin = rotary_angles(length, head_width, self.settings.rope_base, input_ids_BT.device)
        blocked = torch.ones(length, length, dtype=torch.bool, device=input_ids_BT.device).triu(1)[None]
        if documents_BT is not None:
            blocked = blocked | (documents_BT[:, :, None] != documents_BT[:, None, :])
        if not self.config.cognitive:
            return Context(cos, sin, blocked)
        markers = tuple(self.config.phase_marker_ids)
        phase_BT = phase_of_token(input_ids_BT, markers, self.config.bos_token_id)
        angle_BT1 = self.phase_angle_S.float()[phase_BT].unsqueeze(-1)
        return Context(cos, sin, blocked, angle_BT1.cos(), angle_BT1.sin())

    def prepare_inputs_for_generation(self, input_ids: Tensor, **kwargs: Any) -> dict[str, Any]:
        return {"input_ids": input_ids, "attention_mask": kwargs.get("attention_mask")}


def class_of_layers(architecture: str) -> Callable[[ModelConfig], ExpertLayer]:
    """The layer class that the table of architectures names."""
    module, _, name = ARCHITECTURES[architecture].module.partition(":")
    return cast(Callable[[ModelConfig], ExpertLayer], getattr(importlib.import_module(module), name))


def expert_share(record: LayerRecord) -> Tensor:
    """The gate (N, E), or with a mean readout each expert's share of the energy of the deltas."""
    if record.gate_NE is not None:
        return record.gate_NE
    energy_NE = record.delta_END.square().sum(-1).T
    return energy_NE / energy_NE.sum(-1, keepdim=True).clamp(min=1e-12)


def next_token_loss(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """Mean cross-entropy of predicting label t + 1 at position t, over labels that are not -100; 0 if none is."""
    target = labels_BT[:, 1:].flatten()
    total = F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), target, ignore_index=-100, reduction="sum")
    return total / (target != -100).sum().clamp(min=1)


AutoModelForCausalLM.register(MoeHubConfig, LanguageModel, exist_ok=True)
