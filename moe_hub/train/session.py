"""One attempt of a run, from its directory to its final status: new, adopted, resumed or forked."""

from __future__ import annotations

import contextlib
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from moe_hub.architectures import count_parameters
from moe_hub.checkpoint import TrainerState, remove_old, restore
from moe_hub.config import Config
from moe_hub.data.prepare import TrainingData, open_data
from moe_hub.errors import ConfigError, MoeHubError
from moe_hub.models import build_model
from moe_hub.models.language_model import LanguageModel
from moe_hub.ranks import ALONE, Ranks
from moe_hub.runs.fork import ORIGIN_FILE
from moe_hub.runs.store import BRIEFLY_S, CHECKPOINT_FOLDER, RunDirectory
from moe_hub.train.controller import Controller
from moe_hub.train.device import choose_device, keep_freed_memory, set_threads
from moe_hub.train.failure import explain
from moe_hub.train.loop import Trainer
from moe_hub.train.optimization import build_optimizer
from moe_hub.train.parallel.controller import SharedController
from moe_hub.train.parallel.strategy import spread
from moe_hub.train.record import RunRecord, SilentRecord

LOG_BYTES = 3000  # of the log that the status keeps of a failure


def run_training(run: RunDirectory, *, resume: bool = False, ranks: Ranks = ALONE) -> str:
    """Trains the run in this process to a final state, which is returned: finished or stopped.

    With `resume` it goes on from the last checkpoint (from the start where there is none). Raises a `MoeHubError`
    for what a person can mend; any other error passes through. In each case the status says why. Of several processes
    rank 0 writes the run directory.
    """
    config = run.config()
    transformers_logging.disable_progress_bar()  # of saving a model: it would tear our own
    with run.lock(BRIEFLY_S) if ranks.main else contextlib.nullcontext():
        record: RunRecord = SilentRecord(run.path, config.train.max_steps)
        if ranks.main:
            record = RunRecord(run.path, config.train.max_steps, keep_attempt=resume)
        with SharedController(run.path, ranks) if ranks.several else Controller(run.path) as controller:
            try:
                trainer = _prepare(run, config, record, controller, ranks, resume=resume)
                state = trainer.run()
                record.close(state=state, reason="", exit_reason=controller.stop_reason, step=trainer.state.step)
                return state
            except KeyboardInterrupt:
                record.close(state="stopped", exit_reason="stopped at once, without saving")
                return "stopped"
            except BaseException as error:
                _close_failed(record, error, ranks)
                raise


@dataclass(frozen=True)
class Parts:
    """What a training is made of."""

    data: TrainingData
    model: LanguageModel
    device: torch.device


def build_parts(
    config: Config, record: RunRecord | None = None, cache_dir: Path | None = None, ranks: Ranks = ALONE
) -> Parts:
    """Data (from the token cache in `cache_dir`, by default the usual one) and model of a config, on its device.

    Raises `ConfigError` or `DataError`.
    """
    set_threads(config.train)
    keep_freed_memory()
    device = choose_device(config.train, ranks.local_rank if ranks.several else None)
    if device.type == "cuda" and ranks.several:
        torch.cuda.set_device(device)

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


def _prepare(
    run: RunDirectory, config: Config, record: RunRecord, controller: Controller, ranks: Ranks = ALONE, *, resume: bool
) -> Trainer:
    if refusal := config.refuses(ranks.world):
        raise ConfigError(refusal)
    torch.manual_seed(config.seed + ranks.rank)  # of dropout; the model seeds itself
    parts = build_parts(config, record, ranks=ranks)
    counts = count_parameters(config.model, parts.data.tokenizer.vocab_size)
    parameters = {"total": counts.total, "active": counts.active, "parts": dict(counts.parts)}
    record.update(parameters=parameters, world_size=ranks.world)
    spread_model = spread(parts.model, config, ranks)
    optimizer = build_optimizer(parts.model, config.train)
    state = TrainerState()
    checkpoints = run.checkpoints() if resume or (run.path / ORIGIN_FILE).is_file() else []
    if checkpoints:
        state = restore(checkpoints[-1], parts.model, optimizer, ranks)
        if ranks.main:  # a crash right after a save has left more than are kept
            remove_old(run.path / CHECKPOINT_FOLDER, config.train.keep_checkpoints, state.best_step)
        record.say(f"resuming from step {state.step}")
    found = parts.data.facts
    record.say(f"tokens: cache {'hit' if found['cache_hit'] else 'miss'} ({found['cache_reason']})")
    record.say(
        f"run {run.run_id}: {config.model.architecture}, {counts.total:,} parameters, "
        f"{parts.data.tokens_per_epoch:,} tokens an epoch, {parts.device}"
        + (f", {ranks.world} processes ({config.train.parallel.strategy})" if ranks.several else "")
    )
    return Trainer(config, parts.model, optimizer, parts.data, record, controller, state, ranks, spread_model)


def _close_failed(record: RunRecord, error: BaseException, ranks: Ranks) -> None:
    found = explain(error)
    reason = found.line
    if not ranks.main:
        said = reason if isinstance(error, MoeHubError) else "".join(traceback.format_exception(error)).rstrip()
        print(f"process {ranks.rank}: {said}", file=sys.stderr, flush=True)  # rank 0 finds the same, or a lost process
        return
    if not isinstance(error, MoeHubError):
        record.say("".join(traceback.format_exception(error)).rstrip())
    record.say(f"failed: {reason}")
    log = RunDirectory(record.run_dir).log_tail(LOG_BYTES)
    record.close(state="failed", reason="", exit_reason=reason, failure=found.values(log))
