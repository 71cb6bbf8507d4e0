"""Small models of every architecture and of every choice that changes what is computed."""

from __future__ import annotations

import torch
from torch import Tensor

from moe_hub.config import Config, load_config
from moe_hub.data.batch import Batch
from moe_hub.models import build_model
from moe_hub.models.language_model import LanguageModel

VOCAB = 11
MARKERS = (5, 6, 7, 8)
SMALL = (
    "model.d_model=16", "model.num_heads=2", "model.num_layers=2", "model.num_experts=4", "model.max_seq_len=16",
    "model.ghost.ramp_steps=4", "train.schedule=linear",
)  # fmt: skip

VARIANTS: dict[str, tuple[str, ...]] = {
    "dense": ("architecture=dense",),
    "dense-ffn": ("architecture=dense", "scope=ffn"),
    "topk": ("architecture=topk",),
    "topk-swiglu": ("architecture=topk", "topk.activation=swiglu"),
    "topk-all": ("architecture=topk", "topk.top_k=4"),
    "gnn": ("architecture=gnn",),
    "gnn-ffn-mean": ("architecture=gnn", "scope=ffn", "readout=mean", "coupling.num_layers=2"),
    "gnn-fixed": ("architecture=gnn", "coupling.learnable_edge_weights=false"),
    "hgnn": ("architecture=hgnn",),
    "hgnn-ffn": ("architecture=hgnn", "scope=ffn"),
    "hgnn-mean": ("architecture=hgnn", "readout=mean"),
    "hgnn-triplets": ("architecture=hgnn", "coupling.strategy=all_triplets", "coupling.num_layers=2"),
    "hgnn-all": ("architecture=hgnn", "coupling.strategy=all"),
    "hgnn-orders": ("architecture=hgnn", "coupling.strategy=all_orders"),
    "hgnn-uncoupled": ("architecture=hgnn", "coupling.num_layers=0"),
    "hgnn-fixed": ("architecture=hgnn", "coupling.learnable_edge_weights=false"),
    "hgnn-one": ("architecture=hgnn", "num_experts=1"),
    "orthogonal": ("architecture=orthogonal",),
    "orthogonal-weights": ("architecture=orthogonal", "orthogonal.target=weights", "scope=ffn"),
    "orthogonal-gram": ("architecture=orthogonal", "orthogonal.loss=gram_identity"),
    "ghost": ("architecture=ghost",),
    "ghost-fvu": ("architecture=ghost", "ghost.saturation_measure=fvu_grad"),
    "ghost-legacy": ("architecture=ghost", "ghost.saturation_measure=legacy", "scope=ffn"),
    "ghost-ffn-mean": ("architecture=ghost", "scope=ffn", "readout=mean", "coupling.strategy=all_triplets"),
    "ghost-all": ("architecture=ghost", "coupling.strategy=all"),
    "ghost-one": ("architecture=ghost", "ghost.num_ghosts=1", "coupling.num_layers=2"),
    "geometric": ("architecture=geometric",),
    "geometric-ffn-mean": ("architecture=geometric", "scope=ffn", "readout=mean"),
    "butterfly": ("architecture=geometric", "geometric.rotation_type=butterfly"),
    "householder": ("architecture=geometric", "geometric.rotation_type=householder"),
    "cayley": ("architecture=geometric", "geometric.rotation_type=cayley"),
    "cayley-full": ("architecture=geometric", "geometric.rotation_type=cayley", "geometric.block_size=0"),
    "geometric-shared": ("architecture=geometric", "geometric.share_experts=true"),
    "geometric-frozen": ("architecture=geometric", "geometric.freeze_experts=true"),
    "geometric-still": ("architecture=geometric", "geometric.freeze_rotations=true"),
    "geometric-ghosts": ("architecture=geometric", "geometric.ghosts=true"),
}


def make_config(variant: str, *more: str) -> Config:
    """Config of a variant; `more` are full overrides such as train.mode=geometric."""
    return load_config(overrides=[*SMALL, *(f"model.{choice}" for choice in VARIANTS[variant]), *more])


def make_model(variant: str, *more: str, cognitive: bool = False) -> LanguageModel:
    """A small model in training mode."""
    config = make_config(variant, *more, *(("train.lambda_cognitive.enabled=true",) if cognitive else ()))
    model = build_model(config, vocab_size=VOCAB, phase_marker_ids=MARKERS if cognitive else (), bos_token_id=1)
    return model.train()


def make_batch(rows: int = 2, length: int = 12, seed: int = 0) -> Batch:
    """Random tokens, all targets, one document a row."""
    ids = torch.randint(2, VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))
    return Batch(ids, ids.clone(), torch.ones_like(ids))


def stir(model: LanguageModel, size: float = 0.05, seed: int = 1) -> LanguageModel:
    """Moves every parameter a little, so that nothing is at a special point such as 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator).to(parameter)
    return model


def wake_ghosts(model: LanguageModel, steps: int = 2) -> LanguageModel:
    """Wakes all ghosts and moves them `steps` along their ramp; nothing in a model without ghosts."""
    for layer in model.stack:
        if layer.ghosts is not None:
            for ghost in range(len(layer.ghosts.states())):
                layer.ghosts.wake(ghost)
            for _ in range(steps - 1):
                layer.ghosts.advance()
    return model


def logits_of(model: LanguageModel, ids: Tensor, documents: Tensor | None = None) -> Tensor:
    """Logits without gradients, from a fixed random state (dropout draws the same)."""
    torch.manual_seed(0)
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, documents=documents).logits
    return logits
