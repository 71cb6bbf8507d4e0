"""What each process of the tests of several processes runs: alone, or under torchrun.

python parallel_worker.py MODE OUT FOLDER

save      trains a few steps in shards and saves
compare   losses of 20 steps of every architecture, replicated and in shards; logits of the checkpoint that `save` made;
          saves it again; whether training goes on from a checkpoint bit for bit
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from moe_hub.architectures import ARCHITECTURES
from moe_hub.checkpoint import TrainerState, restore, save_checkpoint
from moe_hub.config import Config, load_config
from moe_hub.ranks import Ranks
from moe_hub.train.controller import Controller
from moe_hub.train.loop import Trainer
from moe_hub.train.optimization import build_optimizer
from moe_hub.train.parallel.group import joined
from moe_hub.train.parallel.strategy import spread
from moe_hub.train.record import SilentRecord
from moe_hub.train.session import build_parts

STEPS = 20
SMALL = (
    "model.d_model=16", "model.num_heads=2", "model.num_layers=2", "model.num_experts=3", "model.max_seq_len=64",
    "model.dropout=0.0", "model.geometric.rotation_dims=4", f"train.max_steps={STEPS}", "train.batch_size=5",
    "train.grad_accumulation=2", "train.warmup_steps=2", "train.log_every=5", "train.eval_every=1000",
    "train.checkpoint_every=1000", "train.precision=fp32", "train.device=cpu", "train.threads=1",
    "data.num_train_samples=100", "data.num_eval_samples=12", "data.max_term_size=9",
)  # fmt: skip
# Whatever in a loss or a state machine depends on the whole batch is at work from the first step on.
WOKEN = (
    "model.ghost.saturation_window=4", "model.ghost.patience=1", "model.ghost.min_step=1", "model.ghost.plateau=1.0",
    "model.ghost.ramp_steps=4", "model.ghost.activation_threshold=0.0",
)  # fmt: skip
ARMS = {
    "dense": (),
    "gnn": (),
    "hgnn": (),
    "muon": ("model.architecture=hgnn", "train.optimizer=muon"),
    "gram": (
        "model.architecture=orthogonal", "model.orthogonal.loss=gram_identity", "model.orthogonal.warmup_steps=0",
        "model.orthogonal.initial_weight=0.3",
    ),
    "orthogonal": ("model.orthogonal.warmup_steps=0", "model.orthogonal.initial_weight=0.3"),
    "ghost": WOKEN,
    "fvu": ("model.architecture=ghost", "model.ghost.saturation_measure=fvu_grad", *WOKEN),
    "legacy": ("model.architecture=ghost", "model.ghost.saturation_measure=legacy", *WOKEN),
    "geometric": ("train.mode=geometric",),
    "topk": ("model.topk.load_balance_weight=0.5", "model.topk.router_z_weight=0.1"),
}  # fmt: skip


def config_of(arm: str, strategy: str, *more: str) -> Config:
    architecture = (f"model.architecture={arm}",) if arm in ARCHITECTURES else ()
    return load_config(overrides=(*architecture, f"train.parallel.strategy={strategy}", *SMALL, *ARMS[arm], *more))


def trainer_of(config: Config, ranks: Ranks, checkpoint: Path | None = None) -> Trainer:
    """A trainer that writes no run directory."""
    parts = build_parts(config, ranks=ranks)
    spread_model = spread(parts.model, config, ranks)
    optimizer = build_optimizer(parts.model, config.train)
    state = restore(checkpoint, parts.model, optimizer, ranks) if checkpoint else TrainerState()
    nowhere = Path("nowhere")
    record, controller = SilentRecord(nowhere, config.train.max_steps), Controller(nowhere)
    return Trainer(config, parts.model, optimizer, parts.data, record, controller, state, ranks, spread_model)


def curve(config: Config, ranks: Ranks) -> dict[str, Any]:
    """Task and total loss of each step, the last gradient norms, measures and held-out metrics."""
    trainer = trainer_of(config, ranks)
    rows: list[list[float]] = []
    seen: dict[str, Any] = {}
    keep_measures(trainer, seen)
    for _ in range(STEPS):
        before = trainer.state.window.get("loss/total", 0.0), trainer.state.window.get("targets", 0.0)
        trainer._step()
        window = trainer.state.window or seen["window"]
        targets = window["targets"] - before[1]
        rows.append([trainer._last_task, (window["loss/total"] - before[0]) / targets])
    held_out = trainer.evaluate(None, quiet=True)
    return {"rows": rows, "held_out": held_out, "tokens": trainer.state.tokens, "logged": seen["logged"]}


def keep_measures(trainer: Trainer, seen: dict[str, Any]) -> None:
    """Keeps what a logged row holds, unrounded, and the window that logging empties."""

    def log(task: float, rates: Any, norms: dict[str, float], norm: float, more: dict[str, Any]) -> None:
        seen["window"], trainer.state.window = trainer.state.window, {}
        flat = {name: torch.as_tensor(value, dtype=torch.float64).flatten().tolist() for name, value in more.items()}
        seen["logged"] = {**flat, "norm": [norm], **{f"norm/{name}": [value] for name, value in norms.items()}}

    trainer._log = log  # type: ignore[method-assign]


def save(ranks: Ranks, folder: Path) -> Any:
    trainer = trainer_of(checkpointed("fsdp"), ranks)
    for _ in range(6):
        trainer._step()
    return {"logits": logits_of(trainer), "folder": str(saved(trainer, folder / f"of{ranks.world}"))}


def compare(ranks: Ranks, folder: Path) -> Any:
    strategies = ("ddp", "fsdp") if ranks.several else ("ddp",)
    found: dict[str, Any] = {
        strategy: {name: curve(config_of(name, strategy), ranks) for name in ARMS} for strategy in strategies
    }
    if not ranks.several:
        return found
    (written,) = (folder / "of4").glob("step_*")
    reloaded = trainer_of(checkpointed("fsdp"), ranks, written)
    found["logits"] = logits_of(reloaded)
    found["folder"] = str(saved(reloaded, folder / "of2"))
    found["resumed"] = {strategy: goes_on(ranks, strategy, folder / strategy) for strategy in strategies}
    for name in strategies:  # each strategy goes on from what the other wrote
        (written,) = (folder / name).glob("step_*")
        found[f"{name} elsewhere"] = [
            logits_of(trainer_of(checkpointed(strategy), ranks, written)) for strategy in strategies
        ]
    return found


def checkpointed(strategy: str) -> Config:
    """Three experts on four processes, ghosts awake, matrices of Muon, and dropout."""
    return config_of("ghost", strategy, "train.optimizer=muon", "model.dropout=0.1")


def logits_of(trainer: Trainer) -> list[float]:
    trainer.model.eval()
    with torch.no_grad():
        logits = trainer.model(input_ids=torch.arange(12).view(2, 6)).logits
    trainer.spread.rest()
    return logits.flatten().tolist()  # type: ignore[no-any-return]


def saved(trainer: Trainer, root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    return save_checkpoint(
        root, trainer.model, trainer.optimizer, trainer.data.tokenizer, trainer.config, trainer.state, trainer.ranks
    )


def goes_on(ranks: Ranks, strategy: str, root: Path) -> bool:
    """Whether all processes hold the same bits after six steps, and after three, a checkpoint and three more."""
    torch.manual_seed(ranks.rank)
    one = trainer_of(checkpointed(strategy), ranks)
    for _ in range(3):
        one._step()
    folder = saved(one, root)
    for _ in range(3):
        one._step()
    torch.manual_seed(99)
    other = trainer_of(checkpointed(strategy), ranks, folder)
    for _ in range(3):
        other._step()
    return all(ranks.gather(held(one) == held(other)))


def held(trainer: Trainer) -> str:
    """Digest of the weights and moments that this process holds."""
    digest = hashlib.sha256()
    for parameter in trainer.model.parameters():
        moments = sorted(trainer.optimizer.state.get(parameter, {}).items())
        for tensor in (parameter.detach(), *(value for _, value in moments)):
            own = tensor.to_local() if isinstance(tensor, DTensor) else tensor
            digest.update(own.numpy().tobytes())
    return digest.hexdigest()


def main(mode: str, out: str, folder: str) -> None:
    works: dict[str, Callable[[Ranks, Path], Any]] = {"save": save, "compare": compare}
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with joined() as ranks:
        found = works[mode](ranks, Path(folder))
        if ranks.main:
            Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
