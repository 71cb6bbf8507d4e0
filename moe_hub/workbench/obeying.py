"""What the buttons Pause, Resume, Stop and Save do, on the page and in the menu: each leaves a request and says so."""

from __future__ import annotations

from moe_hub import launch
from moe_hub.errors import RunError
from moe_hub.runs import control
from moe_hub.runs.status import HOLDING_STATES
from moe_hub.runs.store import RunStore
from moe_hub.workbench.stops import Stops

ACTIONS = ("pause", "resume", "stop", "save")
SAID = {
    "pause": "Pause requested: the run holds after the current step.",
    "resume": "Resume requested.",
    "save": "Save requested: a checkpoint is written after the current step.",
    "stop": "Stop requested: it takes effect after the current step, and what is learned is kept.",
}


def act(store: RunStore, stops: Stops, run_id: str, action: str) -> str:
    """Does one of `ACTIONS` with a run and returns what to tell the person; raises `MoeHubError`."""
    if action not in ACTIONS:
        raise RunError(f"action {action!r} is unknown; allowed: {', '.join(ACTIONS)}")
    run = store.open(run_id)
    if action == "stop":
        stops.request(run_id)
    elif action == "resume" and run.state() not in HOLDING_STATES:
        launch.start(run.path, resume=True)
        return "Going on from the last checkpoint."
    else:
        control.request(run.path, action)
    return SAID[action]
