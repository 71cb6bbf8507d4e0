"""Steps of one process and of several, in turns, in one group of processes: what a rank of torchrun runs.

Turns of a few steps follow each other, so that whatever else the machine does meets all of them alike. While rank 0
trains alone the others wait and use no CPU.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from moe_hub.checkpoint import TrainerState
from moe_hub.config import Config, load_config
from moe_hub.ranks import ALONE, Ranks
from moe_hub.train.controller import Controller
from moe_hub.train.loop import Trainer
from moe_hub.train.optimization import build_optimizer
from moe_hub.train.parallel.group import joined
from moe_hub.train.parallel.strategy import spread
from moe_hub.train.record import SilentRecord
from moe_hub.train.session import build_parts

ARMS = ("alone", "ddp", "fsdp")
WARM_UP = 2


def config_of(architecture: str, strategy: str) -> Config:
    """The step of the other parts of the benchmark, on generated lambda terms; one thread a process."""
    kind = "auto" if strategy == "alone" else strategy
    return load_config(
        overrides=(
            f"model.architecture={architecture}", f"train.parallel.strategy={kind}",
            "model.d_model=128", "model.num_layers=2", "model.num_experts=8", "model.max_seq_len=128",
            "train.batch_size=16", "train.max_steps=1000000", "train.log_every=1000000", "train.threads=1",
            "data.num_train_samples=4000", "data.num_eval_samples=50",
        )
    )  # fmt: skip


def trainer_of(architecture: str, arm: str, ranks: Ranks) -> Trainer:
    """A trainer that writes nothing."""
    config = config_of(architecture, arm)
    parts = build_parts(config, ranks=ranks)
    spread_model = spread(parts.model, config, ranks)
    optimizer, nowhere = build_optimizer(parts.model, config.train), Path("nowhere")
    record, controller = SilentRecord(nowhere, config.train.max_steps), Controller(nowhere)
    state = TrainerState()
    return Trainer(config, parts.model, optimizer, parts.data, record, controller, state, ranks, spread_model)


def turn(trainer: Trainer | None, steps: int, ranks: Ranks) -> dict[str, float]:
    """Wall seconds, CPU seconds of all processes and tokens of some steps; without a trainer a process waits."""
    ranks.gather(None)
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = trainer.state.tokens if trainer is not None else 0
    if trainer is not None:
        for _ in range(steps):
            trainer._step()
        tokens = trainer.state.tokens - tokens
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    seconds = ranks.gather((wall, cpu))
    return {"wall_s": seconds[0][0], "cpu_s": sum(each for _, each in seconds), "tokens": tokens}


def measure(architecture: str, rounds: int, steps: int, ranks: Ranks) -> dict[str, list[dict[str, float]]]:
    """The turns of each arm."""
    trainers: dict[str, Trainer | None] = {"alone": trainer_of(architecture, "alone", ALONE) if ranks.main else None}
    trainers |= {arm: trainer_of(architecture, arm, ranks) for arm in ARMS[1:]}
    for trainer in trainers.values():
        turn(trainer, WARM_UP, ranks)
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for number in range(rounds):
        for place in range(len(ARMS)):
            arm = ARMS[(number + place) % len(ARMS)]
            found[arm].append(turn(trainers[arm], steps, ranks))
    return found


def main(out: str, rounds: str, steps: str, *architectures: str) -> None:
    """Measures the architectures and writes JSON."""
    torch.set_num_threads(1)
    with joined() as ranks:
        found: dict[str, Any] = {each: measure(each, int(rounds), int(steps), ranks) for each in architectures}
        if ranks.main:
            Path(out).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
