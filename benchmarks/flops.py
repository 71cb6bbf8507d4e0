"""Useful work of a training step: the numerator of model FLOP utilisation (MFU).

Counted as in PaLM (Chowdhery et al. 2022, appendix B): two operations per multiply-add, the backward pass twice the
forward pass, attention over the full square, no recomputation, nothing but matrix products. An implementation that
does more work than this gets no credit for it.
"""

from __future__ import annotations

from moe_hub.architectures import coupling_rounds, swiglu_width
from moe_hub.config.model import ModelConfig


def expert_flops(model: ModelConfig, length: int, *, attention: bool = True) -> int:
    """Forward operations of one block expert on one token: 24 d^2 + 4 T d; without attention 16 d^2."""
    d = model.d_model
    return 16 * d * d + (8 * d * d + 4 * length * d if attention else 0)


def sparse_layer_flops(model: ModelConfig, length: int) -> int:
    """Forward operations of one topk layer on one token: shared attention, router, and the chosen experts."""
    d = model.d_model
    expert = 16 * d * d if model.topk.activation == "relu2" else 6 * d * swiglu_width(d)
    return 8 * d * d + 4 * length * d + 2 * d * model.num_experts + model.topk.top_k * expert


def coupling_flops(model: ModelConfig) -> int:
    """Forward operations of one coupling round on one token of all experts."""
    d, width, experts = model.d_model, model.d_model // 4, model.num_experts
    if model.architecture == "gnn":
        return 6 * d * width * experts + 2 * experts * experts * width + 4 * d * experts
    return 4 * d * width * experts + 2 * experts * experts * width


def layer_flops(model: ModelConfig, length: int) -> int:
    """Forward operations of one layer on one token; ghosts are dormant."""
    if model.architecture == "topk":
        return sparse_layer_flops(model, length)
    d, experts = model.d_model, 1 if model.architecture == "dense" else model.num_experts
    if model.scope == "block":
        work = experts * expert_flops(model, length)
    else:
        work = 8 * d * d + 4 * length * d + experts * expert_flops(model, length, attention=False)
    if experts > 1 and model.readout == "gate":
        work += 2 * d * experts
    return work + coupling_rounds(model) * coupling_flops(model)


def flops_per_step(model: ModelConfig, batch: int, length: int, vocab: int) -> int:
    """Operations of one training step on batch x length tokens, tied head included."""
    forward = model.num_layers * layer_flops(model, length) + 2 * model.d_model * vocab
    return 3 * forward * batch * length
