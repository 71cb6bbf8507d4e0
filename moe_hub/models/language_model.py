"""The language model that all architectures share: embedding, layers, tied head, loss, and measurement.

Legend: B batch, T time (S with what a cache holds), D d_model, V vocab, L layers, N = B x T tokens, S phases.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache

from moe_hub.architectures import ARCHITECTURES
from moe_hub.config.model import ModelConfig
from moe_hub.errors import ConfigError
from moe_hub.models.attention import Context
from moe_hub.models.base import Layer, Record
from moe_hub.models.configuration import MoeHubConfig
from moe_hub.models.output import LanguageModelOutput, chunked_loss, next_token_loss
from moe_hub.models.phases import PHASES, RIGHT_ANGLES, phase_of_token
from moe_hub.models.pointwise import norm
from moe_hub.models.record import at_least_fp32
from moe_hub.models.shared_tokens import same_everywhere

__all__ = ["PHASES", "LanguageModel", "LanguageModelOutput", "class_of_layers"]


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
        self.layers = nn.ModuleList(layer_class(self.settings, index) for index in range(self.settings.num_layers))
        if config.cognitive:
            # Angle of each phase at present; the schedule moves it between steps, evaluation never does.
            self.register_buffer("phase_angle_S", torch.tensor(RIGHT_ANGLES))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        own = list(module.parameters(recurse=False))
        if own and all(getattr(parameter, "_is_hf_initialized", False) for parameter in own):
            return  # loaded from a checkpoint
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif callable(reset := getattr(module, "reset_parameters", None)):
            reset()

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    @property
    def stack(self) -> list[Layer]:
        """The layers, from the first to the last."""
        return cast(list[Layer], list(self.layers))

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        attention_mask: Tensor | None = None,
        documents: Tensor | None = None,
        cache: Cache | None = None,
        use_cache: bool = False,
        phases: Tensor | None = None,
        logits_to_keep: int = 0,
        measure: bool = False,
        geometric: bool = False,
        loss_chunk: int = 0,
        sample: Tensor | None = None,
        **others: Any,
    ) -> LanguageModelOutput:
        """Logits (B, T, V), and the loss where `labels` (B, T; not shifted, -100 ignored) are given.

        `documents` (B, T) numbers the documents packed in a row (0 = padding): no token sees another document. An
        `attention_mask` (B, T; 0 = padding) is the same with one document; with a `cache` both cover what that holds,
        too. `phases` (B, T) spares the model to find them. `logits_to_keep` > 0 computes the last logits only.
        `measure` adds the metrics of the layers, detached; `geometric` the differentiable terms of the geometric loss.
        `loss_chunk` > 0 computes the loss that many tokens at a time and no logits. `sample` are the indices of the
        tokens to measure, among the N of this process; else some are chosen.
        """
        cache = cache if cache is not None else others.get("past_key_values")
        if use_cache and cache is None:
            cache = DynamicCache()
        context = self._context(input_ids, documents if documents is not None else attention_mask, cache, phases)
        context.sample_N = sample
        x_BTD = self.embedding(input_ids)
        records: list[Record] = []
        for layer in self.stack:
            x_BTD, record = layer(x_BTD, context)
            records.append(record)
        hidden_BTD = norm(x_BTD)
        found = LanguageModelOutput(cache=cache)
        if labels is not None and loss_chunk:
            found.loss = chunked_loss(hidden_BTD, self.embedding.weight, labels, loss_chunk)
        else:
            head_VD = self.embedding.weight
            found.logits = at_least_fp32(F.linear(hidden_BTD[:, -logits_to_keep:].to(head_VD.dtype), head_VD))
            found.loss = None if labels is None else next_token_loss(found.logits, labels)
        self._add_terms(found, records, context, geometric=geometric, training=self.training and labels is not None)
        if measure:
            found.measures = self.measure(self._sampled(records, context))
        return found

    def _add_terms(
        self, found: LanguageModelOutput, records: list[Record], context: Context, *, geometric: bool, training: bool
    ) -> None:
        # Autocast would take the products of unit vectors in bf16, whose steps are as large as the overlaps.
        with torch.autocast(self.embedding.weight.device.type, enabled=False):
            terms: dict[str, Tensor] = self.geometric_terms(self._sampled(records, context)) if geometric else {}
            if training and torch.is_grad_enabled():
                pairs = [layer.observe(record, context) for layer, record in zip(self.stack, records, strict=True)]
                own = {name: torch.stack([pair[name][0] for pair in pairs]).mean().detach() for name in pairs[0]}
                terms = own | terms
                if own:
                    found.auxiliary = torch.stack([weighted for pair in pairs for _, weighted in pair.values()]).sum()
        found.terms = terms or None

    def _sampled(self, records: list[Record], context: Context) -> list[Record]:
        index_N = context.sample(self.embedding.weight.device)
        return [record.sampled(index_N) for record in records]

    def geometric_terms(self, records: list[Record]) -> dict[str, Tensor]:
        """The terms of the geometric loss from sampled records, each in [0, 1], mean over layers:

        orthogonality: normalised squared overlap of the deltas; rotation_efficiency: (D - tr R) / 2D;
        specialization: 1 - normalised mutual information of token and expert. A single expert overlaps with none and
        is not routed: those terms are 0 then.
        """
        pairs = list(zip(self.stack, records, strict=True))
        overlap = [value.clamp(min=0) for layer, record in pairs if (value := layer.overlap(record)) is not None]
        cost = [same_everywhere(layer.rotation.cost().mean()) for layer in self.stack if layer.rotation is not None]
        special = [1 - value for layer, record in pairs if (value := layer.specialization(record)) is not None]
        named = {"orthogonality": overlap, "rotation_efficiency": cost, "specialization": special}
        zero = self.embedding.weight.new_zeros(())
        return {name: torch.stack(values).mean() if values else zero for name, values in named.items()}

    @torch.no_grad()
    def measure(self, records: list[Record]) -> dict[str, Tensor]:
        """Metrics of all layers from sampled records, by metric name; probes are those of the first layer."""
        device = self.embedding.weight.device.type
        with torch.autocast(device, enabled=False):
            found = [layer.measure(record) for layer, record in zip(self.stack, records, strict=True)]
        return {
            name: found[0][name] if name.startswith("probe/") else torch.stack([each[name] for each in found])
            for name in found[0]
        }

    def set_phase_weights(self, weight_S: list[float]) -> None:
        """Turns phase s by weight_s x 90 s degrees from now on; only for models made with `cognitive`."""
        angles = torch.tensor(RIGHT_ANGLES) * torch.tensor(weight_S)
        self.phase_angle_S.copy_(angles.to(self.phase_angle_S))

    @torch.no_grad()
    def set_ghost_threshold(self, value: float) -> None:
        """Saturation above which ghosts wake from now on; kept in checkpoints. Raises `ConfigError` out of bounds.

        A model without ghosts has no threshold and is left as it is.
        """
        if not (math.isfinite(value) and 0 <= value <= 2):
            raise ConfigError(f"ghost threshold {value!r}: allowed are values from 0 to 2")
        for layer in self.stack:
            if layer.ghosts is not None:
                layer.ghosts.threshold.fill_(value)

    def _context(
        self, input_ids_BT: Tensor, documents_BS: Tensor | None, cache: Cache | None, phase_BT: Tensor | None
    ) -> Context:
        batch, length = input_ids_BT.shape
        first = int(cache.get_seq_length()) if cache is not None else 0
        context = Context(first, length, batch * length, documents_BS, cache)
        if self.config.cognitive:
            if phase_BT is None:
                before_B = getattr(cache, "last_phase_B", None) if first else None
                markers = tuple(self.config.phase_marker_ids)
                phase_BT = phase_of_token(input_ids_BT, markers, self.config.bos_token_id, before_B)
            if cache is not None:
                cache.last_phase_B = phase_BT[:, -1]
            angle_BT1 = self.phase_angle_S.float()[phase_BT].unsqueeze(-1)
            context.phase_cos_BT1, context.phase_sin_BT1 = angle_BT1.cos(), angle_BT1.sin()
        return context

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, cache: Cache | None = None, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """The tokens that the cache does not hold yet, and their phases, which the tokens before them decide."""
        cache = cache if cache is not None else kwargs.get("past_key_values")
        done = int(cache.get_seq_length()) if cache is not None else 0
        inputs = {
            "input_ids": input_ids[:, done:],
            "attention_mask": attention_mask,
            "cache": cache,
            "logits_to_keep": kwargs.get("logits_to_keep") or 0,
        }
        if self.config.cognitive:
            markers = tuple(self.config.phase_marker_ids)
            inputs["phases"] = phase_of_token(input_ids, markers, self.config.bos_token_id)[:, done:]
        return inputs


def class_of_layers(architecture: str) -> Callable[[ModelConfig, int], Layer]:
    """The layer class that the table of architectures names."""
    module, _, name = ARCHITECTURES[architecture].module.partition(":")
    return cast(Callable[[ModelConfig, int], Layer], getattr(importlib.import_module(module), name))


AutoModelForCausalLM.register(MoeHubConfig, LanguageModel, exist_ok=True)
