"""The only training loop. `train` runs one in this process; torch is imported only then."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moe_hub.config import Config


def train(config: Config, runs_dir: str | os.PathLike[str] = "runs") -> str:
    """Trains a new run to its end in this process and returns its run id.

    Raises a `MoeHubError` that says what to change where the config, the data or the training fails; the run
    directory stays, with its status.
    """
    from moe_hub.runs.store import RunStore
    from moe_hub.train.session import run_training

    run = RunStore(Path(runs_dir)).create(config)
    run_training(run)
    return run.run_id


__all__ = ["train"]
