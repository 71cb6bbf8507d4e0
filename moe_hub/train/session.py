"""One attempt of a run, from its directory to its final status: new, adopted, resumed or forked."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import torch
from transformers.utils import logging as transformers_logging

from moe_hub.architectures import count_parameters
from moe_hub.checkpoint import TrainerState, folder_name, read_state, restore, step_of
from moe_hub.config import Config, flatten, nest, parse_overrides, validate
from moe_hub.data.prepare import TrainingData, open_data
from moe_hub.errors import MoeHubError, RunError
from moe_hub.models import build_model
from moe_hub.models.language_model import LanguageModel
from moe_hub.runs.files import replace_file
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.train.controller import Controller
from moe_hub.train.device import choose_device, keep_freed_memory, set_threads
from moe_hub.train.failure import advice
from moe_hub.train.loop import Trainer
from moe_hub.train.optimization import build_optimizer
from moe_hub.train.record import RunRecord

ORIGIN_FILE = "origin.json"
LOCK_PATIENCE_S = 5.0  # whoever reconciles the runs may hold one for a moment


def run_training(run: RunDirectory, *, resume: bool = False) -> str:
    """Trains the run in this process to a final state, which is returned: finished or stopped.

    With `resume` it goes on from the last checkpoint (from the start where there is none). Raises a `MoeHubError`
    for what a person can mend; any other error passes through. In each case the status says why.
    """
    config = run.config()
    transformers_logging.disable_progress_bar()  # of saving a model: it would tear our own
    with run.lock(LOCK_PATIENCE_S):
        record = RunRecord(run.path, config.train.max_steps, keep_attempt=resume)
        with Controller(run.path) as controller:
            try:
                trainer = _prepare(run, config, record, controller, resume=resume)
                state = trainer.run()
                record.close(state=state, reason="", exit_reason=controller.stop_reason, step=trainer.state.step)
                return state
            except KeyboardInterrupt:
                record.close(state="stopped", exit_reason="stopped at once, without saving")
                return "stopped"
            except BaseException as error:
                _close_failed(record, error)
                raise


@dataclass(frozen=True)
class Parts:
    """What a training is made of."""

    data: TrainingData
    model: LanguageModel
    device: torch.device


def build_parts(config: Config, record: RunRecord | None = None) -> Parts:
    """Data and model of a config, on its device; raises `ConfigError` or `DataError`."""
    set_threads(config.train)
    keep_freed_memory()
    device = choose_device(config.train)

    def progress(what: str, share: float) -> None:
        if record is not None:
            record.update(reason=f"{what}: {share:.0%}")

    data = open_data(config, progress=progress)
    tokenizer = data.tokenizer
    model = build_model(
        config,
        vocab_size=tokenizer.vocab_size,
        phase_marker_ids=tokenizer.phase_marker_ids,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
    )
    return Parts(data, model.to(device), device)


def fork(store: RunStore, text: str, overrides: Sequence[str] = ()) -> RunDirectory:
    """Makes a new run that begins where `text` (RUN_ID or RUN_ID@STEP) stood; raises `MoeHubError`.

    The new run holds a copy of the checkpoint, so it needs the old one no more. Its model section is the old one's.
    """
    name, _, step = text.partition("@")
    source = store.find(name)
    checkpoint = _checkpoint_at(source, step)
    values = flatten(source.config().model_dump(mode="json")) | flatten(parse_overrides(overrides))
    config = validate(nest(values))
    if config.model != source.config().model:
        raise RunError(f"fork of {source.run_id}: the model section must stay as it is, for its weights are taken over")
    if read_state(checkpoint).step >= config.train.max_steps:
        raise RunError(
            f"fork of {source.run_id}: it stands at step {step_of(checkpoint)} of {config.train.max_steps}; "
            f"give more steps, as in --set train.max_steps={2 * step_of(checkpoint)}"
        )
    run = store.create(config)
    shutil.copytree(checkpoint, run.path / "checkpoints" / checkpoint.name)
    origin = {"run_id": source.run_id, "step": step_of(checkpoint)}
    replace_file(run.path / ORIGIN_FILE, orjson.dumps(origin))
    return run


def _prepare(run: RunDirectory, config: Config, record: RunRecord, controller: Controller, *, resume: bool) -> Trainer:
    torch.manual_seed(config.seed)  # of dropout; the model seeds itself
    parts = build_parts(config, record)
    counts = count_parameters(config.model, parts.data.tokenizer.vocab_size)
    record.update(parameters={"total": counts.total, "active": counts.active, "parts": dict(counts.parts)})
    optimizer = build_optimizer(parts.model, config.train)
    state = TrainerState()
    checkpoints = run.checkpoints() if resume or (run.path / ORIGIN_FILE).is_file() else []
    if checkpoints:
        state = restore(checkpoints[-1], parts.model, optimizer)
        record.say(f"resuming from step {state.step}")
    record.say(
        f"run {run.run_id}: {config.model.architecture}, {counts.total:,} parameters, "
        f"{parts.data.tokens_per_epoch:,} tokens an epoch, {parts.device}"
    )
    return Trainer(config, parts.model, optimizer, parts.data, record, controller, state)


def _checkpoint_at(run: RunDirectory, step: str) -> Path:
    checkpoints = run.checkpoints()
    if not checkpoints:
        raise RunError(f"run {run.run_id} has no checkpoint to fork from")
    if not step:
        return checkpoints[-1]
    wanted = [folder for folder in checkpoints if step.isdigit() and folder.name == folder_name(int(step))]
    if not wanted:
        steps = ", ".join(str(step_of(folder)) for folder in checkpoints)
        raise RunError(f"run {run.run_id} has no checkpoint at step {step!r}; it has {steps}")
    return wanted[0]


def _close_failed(record: RunRecord, error: BaseException) -> None:
    reason = advice(error)
    if not isinstance(error, MoeHubError):
        record.say("".join(traceback.format_exception(error)).rstrip())
    record.say(f"failed: {reason}")
    record.close(state="failed", reason="", exit_reason=reason)
