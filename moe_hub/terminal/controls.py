"""`moe-hub pause|resume|stop|save RUN`: the buttons of the page, in a terminal."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from moe_hub.errors import RunError
from moe_hub.terminal.command import find, guarded, open_store, runs_parser

if TYPE_CHECKING:
    from moe_hub.runs.store import RunDirectory

ANSWER_S = 10.0  # a trainer takes requests between two steps
STAGES = {
    "requested": "asked to stop",
    "terminated": "sent SIGTERM",
    "killed": "sent SIGKILL to the process group",
}
ABOUT = {
    "pause": "Holds the run after the step it is in.",
    "resume": "Goes on with a paused run, or starts an ended one again from its last checkpoint.",
    "stop": "Saves and ends the run: a request, then SIGTERM, then SIGKILL. Takes a queued run out of the queue.",
    "save": "Writes a checkpoint after the step it is in.",
}


def build_parser(name: str) -> argparse.ArgumentParser:
    """The command line of one of them."""
    return runs_parser(name, ABOUT[name], run=True)


def main(arguments: Sequence[str]) -> int:
    """Runs the command that is named first and returns its exit code."""
    name, *rest = arguments
    options = build_parser(name).parse_args(rest)
    work: dict[str, Callable[[RunDirectory], str]] = {"resume": resume, "stop": stop}

    def obey() -> int:
        run = find(open_store(options.runs_dir), options.run)
        print(f"{run.run_id}: {work[name](run) if name in work else ask(run, name)}")
        return 0

    return guarded(obey)


def ask(run: RunDirectory, action: str) -> str:
    """Leaves a request for a running trainer and tells whether it was taken; raises `RunError`."""
    from moe_hub.runs import control
    from moe_hub.runs.status import LIVE_STATES

    state = run.state()
    if state not in LIVE_STATES:
        raise RunError(f"run {run.run_id} is {state}; only a run that is running can be asked to {action}")
    if action == "pause" and state == "paused":
        return "is paused already"
    request = control.request(run.path, action)
    deadline = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline:
        if all(each.id != request for each in control.waiting(run.path)):
            return f"{action}: taken"
        if run.state() not in LIVE_STATES:
            raise RunError(f"run {run.run_id} ended before it took the request; it is {run.state()}")
        time.sleep(0.05)
    return f"{action}: left for the trainer, which takes it after its step"


def resume(run: RunDirectory) -> str:
    """Goes on; raises `RunError` where the run is starting, stopping, queued or finished."""
    from moe_hub.runs.status import HOLDING_STATES

    state = run.state()
    if state in HOLDING_STATES:
        return ask(run, "resume")
    if state == "queued":
        raise RunError(f"run {run.run_id} waits in the queue and has nothing to resume")
    from moe_hub import launch

    launch.start(run.path, resume=True)
    return "started again from its last checkpoint"


def stop(run: RunDirectory) -> str:
    """Ends the run or takes it out of the queue; one that has ended stays as it is. Raises `RunError`."""
    from moe_hub import launch
    from moe_hub.runs.queue import RunQueue

    if run.state() == "queued":
        RunQueue(run.path.parent).remove(run.run_id)
        return "taken out of the queue"
    stage = launch.escalate_stop(run.path, on_stage=lambda each: print(f"{run.run_id}: {STAGES[each]}", flush=True))
    return f"is {run.state()}" + (" already" if stage == "gone" else "")
