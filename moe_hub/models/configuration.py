"""The transformers config class of all architectures: the model section of a run's config plus the vocabulary."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig

from moe_hub.config.model import ModelConfig


class MoeHubConfig(PretrainedConfig):  # type: ignore[misc]
    """Holds `model` (the values of `ModelConfig`), the vocabulary and the ids of the phase markers.

    `phase_marker_ids` are the ids that open the segments syntax, reduction, semantic and pedagogical, in that
    order; empty where the data has none. `cognitive` turns the rotation by phase on.
    """

    model_type = "moe_hub"

    def __init__(
        self,
        model: dict[str, Any] | None = None,
        vocab_size: int = 64,
        phase_marker_ids: list[int] | None = None,
        cognitive: bool = False,
        **kwargs: Any,
    ) -> None:
        self.model = ModelConfig.model_validate(model or {}).model_dump(mode="json")
        self.vocab_size = vocab_size
        self.phase_marker_ids = list(phase_marker_ids or [])
        self.cognitive = cognitive
        # Read by transformers' generation and by other tools that look at a checkpoint.
        self.hidden_size = self.model["d_model"]
        self.num_hidden_layers = self.model["num_layers"]
        self.num_attention_heads = self.model["num_heads"]
        self.max_position_embeddings = self.model["max_seq_len"]
        kwargs.setdefault("tie_word_embeddings", False)  # one tensor serves both ends, so there is nothing to tie
        kwargs.setdefault("use_cache", True)
        super().__init__(**kwargs)

    @property
    def settings(self) -> ModelConfig:
        """The validated model section."""
        return ModelConfig.model_validate(self.model)


AutoConfig.register(MoeHubConfig.model_type, MoeHubConfig, exist_ok=True)
