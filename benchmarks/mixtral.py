"""transformers' Mixtral at the shape of this project's topk, with a chosen implementation of its experts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import MixtralConfig, MixtralForCausalLM
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from benchmarks.timing import Built
from benchmarks.training_step import Shape, optimize
from moe_hub.architectures import swiglu_width
from moe_hub.train.objective import autocast

CPU = torch.device("cpu")
ON_GPU_ALONE = ("deepgemm", "sonicmoe")


def expert_implementations(device: torch.device = CPU) -> list[str]:
    """What this version of transformers offers for a device."""
    names = ["eager", *ALL_EXPERTS_FUNCTIONS.valid_keys()]
    return sorted({name for name in names if device.type != "cpu" or name not in ON_GPU_ALONE})


def mixtral(shape: Shape, experts: str, attention: str, top_k: int = 2) -> MixtralForCausalLM:
    """A freshly initialised Mixtral: SwiGLU experts of the width that topk's have, tied head, load-balance loss."""
    config = MixtralConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.d_model,
        intermediate_size=swiglu_width(shape.d_model),
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        num_local_experts=shape.experts,
        num_experts_per_tok=top_k,
        max_position_embeddings=shape.length,
        tie_word_embeddings=True,
        output_router_logits=True,
        router_aux_loss_coef=0.01,
        use_cache=False,
        attn_implementation=attention,
        experts_implementation=experts,
    )
    torch.manual_seed(0)
    model = MixtralForCausalLM(config)
    assert model.config._experts_implementation == experts
    return model


def build_mixtral(experts: str, attention: str, precision: str, num_experts: int) -> Built:
    """Its training step: the same batches, clip and fused AdamW as this project's."""
    step, parameters = mixtral_step(Shape(experts=num_experts), experts, attention, precision)
    return Built(step, {"precision": precision, "parameters": parameters})


def mixtral_step(
    shape: Shape, experts: str, attention: str, precision: str, device: torch.device = CPU
) -> tuple[Callable[[], None], int]:
    """One training step of a fresh Mixtral on a device, and its number of parameters."""
    model = mixtral(shape, experts, attention).train().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    batches = shape.batches()

    def step() -> None:
        batch = next(batches).to(device)
        with autocast(device, precision):
            loss = model(input_ids=batch.input_ids_BT, labels=batch.labels_BT).loss
        optimize(model, optimizer, loss, 1.0)

    return step, sum(each.numel() for each in model.parameters())
