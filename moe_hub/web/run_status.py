"""The status of one run as the page shows it, rebuilt from its files at each request."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from moe_hub.runs.files import plain
from moe_hub.runs.status import Status, state_of
from moe_hub.web.workbench import Workbench
from moe_hub.workbench.outlook import failure, remaining_seconds, settings_of


def status_line(workbench: Workbench, run_id: str) -> tuple[str, dict[str, Any]]:
    """(version, values) of a run; the version changes with what the page shows. Raises `RunError`."""
    run = workbench.store.open(run_id)
    status = run.status() or Status(state="interrupted")
    state = state_of(status)
    line: dict[str, Any] = {
        "id": run_id,
        "state": state,
        "step": status.step,
        "max_steps": status.max_steps,
        "reason": status.reason,
        "exit_reason": status.exit_reason,
        "heartbeat": status.heartbeat,
        "device": status.device,
        "metrics": plain(status.metrics),
        "parameters": plain(status.parameters),
        "stop": workbench.stops.stage(run_id) if state in ("running", "paused", "stopping", "starting") else None,
        "eta_s": remaining_seconds(status, state),
        "checkpoints": len(run.checkpoints()),
        "label": str(run.notes().get("label") or ""),
    }
    line["alarms"] = workbench.drawings.alarms.of(workbench.histories.of(run_id))
    if state in ("running", "paused"):
        line["settings"] = settings_of(run)
    if state in ("failed", "interrupted"):
        line["failure"] = failure(run, status, state)
    return hashlib.blake2b(orjson.dumps(line), digest_size=8).hexdigest(), line
