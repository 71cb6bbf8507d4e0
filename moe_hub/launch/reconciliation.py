"""What a server does when it starts: sees which runs live on, and writes down which ended without a word."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from moe_hub.errors import RunError
from moe_hub.launch.ending import interrupted
from moe_hub.runs.queue import RunQueue
from moe_hub.runs.status import LIVE_STATES, Status, boot_id, is_local, state_of, write_status
from moe_hub.runs.store import RunDirectory, RunStore


@dataclass(frozen=True)
class Reconciled:
    """Run ids by what was found: `alive` have a process, `interrupted` lost it since the last look, `queued` wait."""

    alive: tuple[str, ...]
    interrupted: tuple[str, ...]
    queued: tuple[str, ...]


def reconcile(runs_dir: Path) -> Reconciled:
    """Looks at every run once; writes `interrupted`, with what is known of why, where the process is gone.

    Never destructive, starts nothing, and may run in several servers at once. A run of another host, or one that a
    process holds, is left as it is; a folder that cannot be written stays as it was, and readers see the same state.
    """
    store = RunStore(runs_dir)
    alive, lost = [], []
    for run_id in store.ids():
        run = RunDirectory(store.runs_dir / run_id)
        status = run.status()
        if status is None or status.state not in LIVE_STATES:
            continue
        if state_of(status) in LIVE_STATES:
            alive.append(run_id)
        elif is_local(status) and _write_interrupted(run):
            lost.append(run_id)
    queued: tuple[str, ...] = ()
    with contextlib.suppress(RunError):
        queued = RunQueue(store.runs_dir).restore()
    return Reconciled(tuple(alive), tuple(lost), queued)


def _write_interrupted(run: RunDirectory) -> bool:
    with contextlib.suppress(RunError, OSError), run.lock():
        status = run.status()  # it may have been started again since
        if status is not None and status.state in LIVE_STATES and state_of(status) == "interrupted":
            write_status(run.path, interrupted(run, status, _why(run, status)))
            return True
    return False


def _why(run: RunDirectory, status: Status) -> str:
    if status.pid is None:
        return "it was made, but its trainer was never started"
    if status.boot_id and boot_id() and status.boot_id != boot_id():
        return "the machine stopped while it ran"
    reason = "the process ended without a word: killed, or out of memory"
    if status.state == "starting":
        lines = run.log_tail().strip().splitlines()
        reason = "the process ended while it started" + (f"; its log ends: {lines[-1][:300]}" if lines else "")
    return reason
