"""What stands in the status of a run whose process is gone without a word."""

from __future__ import annotations

from dataclasses import replace

from moe_hub.runs.status import Status
from moe_hub.runs.store import RunDirectory

LOG_BYTES = 3000


def interrupted(run: RunDirectory, status: Status, cause: str) -> Status:
    """The status as `interrupted`, with the cause, what to do, and the end of the log."""
    checkpoints = run.checkpoints()
    last = int(checkpoints[-1].name.removeprefix("step_")) if checkpoints else None
    advice = (
        f"Resume goes on from the checkpoint of step {last}" if last is not None
        else "Resume begins anew, for there is no checkpoint yet"
    )  # fmt: skip
    failure = {"kind": "killed", "cause": cause, "advice": advice, "log": run.log_tail(LOG_BYTES)}
    return replace(status, state="interrupted", reason="", exit_reason=cause, failure=failure)
