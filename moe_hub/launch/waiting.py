"""Waits for a run that the queue trains, and keeps the queue going meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

from moe_hub.launch.queueing import start_queue
from moe_hub.launch.starting import start
from moe_hub.runs.status import LIVE_STATES, Status
from moe_hub.runs.store import RunDirectory

Seen = Callable[[str, Status | None], None]  # called at each look with the state and the status


def wait_for_end(run: RunDirectory, seen: Seen = lambda state, status: None, *, poll_s: float = 1.0) -> str:
    """The state in which the run ended. One that was interrupted or stopped before goes on first."""
    if run.state() in ("interrupted", "stopped"):
        start(run.path, resume=True)
    while (state := run.state()) in LIVE_STATES or state == "queued":
        if state == "queued":
            start_queue(run.path.parent)  # does nothing where a worker is at it
        seen(state, run.status())
        time.sleep(poll_s)
    return state
