"""A new run that begins where another one stood. Needs no torch, so the dashboard makes forks too."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import orjson

from moe_hub.config import flatten, nest, parse_overrides, validate
from moe_hub.errors import RunError
from moe_hub.runs.files import replace_file
from moe_hub.runs.store import CHECKPOINT_FOLDER, RunDirectory, RunStore

ORIGIN_FILE = "origin.json"


def fork(store: RunStore, text: str, overrides: Sequence[str] = ()) -> RunDirectory:
    """Makes a new run that begins where `text` (RUN_ID or RUN_ID@STEP) stood; raises `MoeHubError`.

    The new run holds a copy of the checkpoint, so it needs the old one no more. Its model section is the old one's.
    """
    name, _, wanted = text.partition("@")
    source = store.find(name)
    checkpoint = _checkpoint_at(source, wanted)
    step = _step_of(checkpoint)
    values = flatten(source.config().model_dump(mode="json")) | flatten(parse_overrides(overrides))
    config = validate(nest(values))
    if config.model != source.config().model:
        raise RunError(f"fork of {source.run_id}: the model section must stay as it is, for its weights are taken over")
    if step >= config.train.max_steps:
        raise RunError(
            f"fork of {source.run_id}: it stands at step {step} of {config.train.max_steps}; "
            f"give more steps, as in --set train.max_steps={2 * step}"
        )
    run = store.create(config)
    shutil.copytree(checkpoint, run.path / CHECKPOINT_FOLDER / checkpoint.name)
    replace_file(run.path / ORIGIN_FILE, orjson.dumps({"run_id": source.run_id, "step": step}))
    return run


def _checkpoint_at(run: RunDirectory, step: str) -> Path:
    checkpoints = run.checkpoints()
    if not checkpoints:
        raise RunError(f"run {run.run_id} has no checkpoint to fork from")
    if not step:
        return checkpoints[-1]
    wanted = [folder for folder in checkpoints if step.isdigit() and _step_of(folder) == int(step)]
    if not wanted:
        steps = ", ".join(str(_step_of(folder)) for folder in checkpoints)
        raise RunError(f"run {run.run_id} has no checkpoint at step {step!r}; it has {steps}")
    return wanted[0]


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step_"))
