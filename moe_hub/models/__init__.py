"""The models. `build_model` makes one from a run's config; torch is imported only then."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moe_hub.config import Config
    from moe_hub.models.language_model import LanguageModel


def build_model(
    config: Config,
    *,
    vocab_size: int = 64,
    phase_marker_ids: tuple[int, ...] = (),
    bos_token_id: int | None = None,
    eos_token_id: int | None = None,
    pad_token_id: int | None = None,
) -> LanguageModel:
    """A freshly initialised model; the same config (with its seed) gives the same bits. Leaves the global RNG alone."""
    import torch

    from moe_hub.models.configuration import MoeHubConfig
    from moe_hub.models.language_model import LanguageModel

    model_config = MoeHubConfig(
        model=config.model.model_dump(mode="json"),
        vocab_size=vocab_size,
        phase_marker_ids=list(phase_marker_ids),
        cognitive=config.train.lambda_cognitive.enabled and bool(phase_marker_ids),
        bos_token_id=bos_token_id,
        eos_token_id=eos_token_id,
        pad_token_id=pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return LanguageModel(model_config)


__all__ = ["build_model"]
