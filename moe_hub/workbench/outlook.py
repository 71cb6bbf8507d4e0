"""What a run is about to do or came to: time left, settings that may change, and what to do after a failure."""

from __future__ import annotations

import os
import re
from functools import lru_cache

from moe_hub.errors import MoeHubError
from moe_hub.runs.status import Status
from moe_hub.runs.store import CONFIG_FILE, RunDirectory

LOG_BYTES = 3000
# What in the reason of a failure points to which change.
ADVICE: tuple[tuple[str, str], ...] = (
    (r"out of memory|cannot allocate|alloc", "Lower train.batch_size, model.d_model or model.max_seq_len, or raise "
     "train.grad_accumulation to keep the batch."),
    (r"no space|disk", "Free some room on the disk, then resume: the last checkpoint is kept."),
    (r"non-?finite|nan|infin|diverg", "Lower train.learning_rate, raise train.warmup_steps or set train.grad_clip "
     "to 1, then start again."),
    (r"data|file|row|column|token", "Look at the data: the message names the file, what was found and what helps."),
    (r"device|cuda|mps", "Set train.device to auto or cpu."),
)  # fmt: skip


def settings_of(run: RunDirectory) -> dict[str, float]:
    """What may be changed while the run goes on, with the value that it began with."""
    try:
        return dict(_settings(run, os.stat(run.path / CONFIG_FILE).st_mtime_ns))
    except (MoeHubError, OSError):
        return {}


@lru_cache(maxsize=256)
def _settings(run: RunDirectory, _changed_ns: int) -> dict[str, float]:
    """Kept, because reading the config takes longer than all else that a page which polls is told."""
    model = run.config().model
    return {"ghost_threshold": model.ghost.activation_threshold} if model.num_ghosts else {}


def remaining_seconds(status: Status, state: str) -> float | None:
    """Steps left times the seconds of the latest ones; None where the run makes none."""
    per_step = status.metrics.get("time/step_s")
    if state != "running" or not per_step or not 0 < per_step < float("inf"):
        return None
    return max(0, status.max_steps - status.step) * per_step


def failure(run: RunDirectory, status: Status, state: str) -> dict[str, str]:
    """What went wrong, what to change, and the end of the log."""
    if status.failure.get("cause"):  # written down by the trainer, or by who found that it was gone
        return {name: status.failure.get(name, "") for name in ("cause", "advice", "log")}
    log = run.log_tail(LOG_BYTES)
    if state == "interrupted":
        cause = (
            status.exit_reason or "The trainer's process is gone without a final word: killed, or the machine stopped."
        )
        advice = "Resume goes on from the last checkpoint." if run.checkpoints() else "Start it again from the form."
        return {"cause": cause, "advice": advice, "log": log}
    cause = status.exit_reason or _last_line(log) or "The trainer ended without saying why."
    return {"cause": cause, "advice": advice_for(cause), "log": log}


def advice_for(cause: str) -> str:
    """What to change after a failure with this reason; empty where the reason says it itself."""
    if re.search(r"\b(train|model|data)\.\w+", cause):
        return ""
    for pattern, advice in ADVICE:
        if re.search(pattern, cause, re.IGNORECASE):
            return advice
    return "The end of the log below says more; change what it names and start again."


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""
