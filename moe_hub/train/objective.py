"""What training minimises: the task loss, the terms of the architecture, and in geometric mode three more in [0, 1].

L = L_task + L_architecture + w_o L_orthogonality + w_e L_rotation_efficiency + w_s L_specialization
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from moe_hub.config import TrainConfig
from moe_hub.data.batch import Batch
from moe_hub.models.output import LanguageModelOutput


def loss_terms(
    model: Callable[..., LanguageModelOutput],
    batch: Batch,
    config: TrainConfig,
    *,
    measure: bool = False,
    sample: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Total loss, its terms by name, and measures where asked for.

    `sample` are the tokens of the batch that terms and measures are taken from; by default some are chosen.
    The terms are `task`, those of the architecture, and in geometric mode the three; all before their weights.
    """
    geometric = config.mode == "geometric"
    output = model(
        input_ids=batch.input_ids_BT,
        labels=batch.labels_BT,
        documents=batch.documents_BT,
        measure=measure,
        geometric=geometric,
        loss_chunk=config.loss_chunk_tokens,
        sample=sample,
    )
    assert output.loss is not None
    terms: dict[str, Tensor] = {"task": output.loss, **(output.terms or {})}
    total = output.loss if output.auxiliary is None else output.loss + output.auxiliary
    if geometric:
        for name, weight in config.loss_weights.model_dump().items():
            total = total + weight * terms[name]
    return total, terms, {name: value.detach() for name, value in (output.measures or {}).items()}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 autocast (master weights stay fp32), or nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
