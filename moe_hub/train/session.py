"""One attempt of a run, from its directory to its final status: new, adopted, resumed or forked."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from moe_hub.architectures import count_parameters
from moe_hub.checkpoint import TrainerState, restore
from moe_hub.config import Config
from moe_hub.data.prepare import TrainingData, open_data
from moe_hub.errors import MoeHubError
from moe_hub.models import build_model
from moe_hub.models.language_model import LanguageModel
from moe_hub.runs.fork import ORIGIN_FILE
from moe_hub.runs.store import RunDirectory
from moe_hub.train.controller import Controller
from moe_hub.train.device import choose_device, keep_freed_memory, set_threads
from moe_hub.train.failure import advice
from moe_hub.train.loop import Trainer
from moe_hub.train.optimization import build_optimizer
from moe_hub.train.record import RunRecord

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


def build_parts(config: Config, record: RunRecord | None = None, cache_dir: Path | None = None) -> Parts:
    """Data (from the token cache in `cache_dir`, by default the usual one) and model of a config, on its device.

    Raises `ConfigError` or `DataError`.
    """
    set_threads(config.train)
    keep_freed_memory()
    device = choose_device(config.train)

    def progress(what: str, share: float) -> None:
        if record is not None:
            record.update(reason=f"{what}: {share:.0%}")

    data = open_data(config, cache_dir=cache_dir, progress=progress)
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


def _close_failed(record: RunRecord, error: BaseException) -> None:
    reason = advice(error)
    if not isinstance(error, MoeHubError):
        record.say("".join(traceback.format_exception(error)).rstrip())
    record.say(f"failed: {reason}")
    record.close(state="failed", reason="", exit_reason=reason)
