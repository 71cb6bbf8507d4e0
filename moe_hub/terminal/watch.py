"""`moe-hub watch RUN`: the status of a run as it changes, until it ends."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence

from moe_hub.runs.status import LIVE_STATES, Status, state_of
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.terminal.command import find, guarded, runs_parser
from moe_hub.terminal.table import duration, number, one_line

POLL_S = 1.0
LINE_EVERY_S = 10.0  # without a terminal, where a line is not drawn over
SHOWN = (("train/loss", "loss"), ("val/loss", "val loss"), ("val/exact_match", "exact match"),
         ("time/tokens_per_s", "tokens/s"))  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 0 where the run finished or was stopped, 1 where it failed or was interrupted.

    Ctrl-C leaves the run alone.
    """
    parser = runs_parser("watch", "Follows a run until it ends. Ctrl-C leaves the run alone.", run=True)
    parser.add_argument("--once", action="store_true", help="print the state of now and exit")
    options = parser.parse_args(arguments)

    def work() -> int:
        run = find(RunStore(options.runs_dir), options.run)
        return watch(run, once=options.once, terminal=sys.stdout.isatty())

    return guarded(work)


def watch(run: RunDirectory, *, once: bool = False, terminal: bool = False, poll_s: float = POLL_S) -> int:
    """Prints the line of the run when it changes, and at its end the reason."""
    print(f"run {run.run_id}", flush=True)
    shown_state, shown_at = "", -LINE_EVERY_S
    while True:
        status = run.status()
        state = state_of(status)
        ended = state not in LIVE_STATES and state != "queued"
        if terminal or once or ended or state != shown_state or time.monotonic() - shown_at >= LINE_EVERY_S:
            _show(line_of(state, status), terminal=terminal, last=once or ended)
            shown_state, shown_at = state, time.monotonic()
        if once or ended:
            break
        time.sleep(poll_s)
    if state in ("failed", "interrupted"):
        _explain(run, status)
        return 1
    return 0


def line_of(state: str, status: Status | None) -> str:
    """State, progress, metrics, time left and age of the heartbeat, on one line."""
    if status is None:
        return state
    share = f" ({100 * status.step / status.max_steps:.0f} %)" if status.max_steps else ""
    parts = [f"{state}: step {status.step:,} of {status.max_steps:,}{share}"]
    parts += [f"{label} {number(status.metrics[name])}" for name, label in SHOWN if name in status.metrics]
    step_s = status.metrics.get("time/step_s", 0.0)
    if state == "running" and step_s > 0:
        parts.append(f"{duration((status.max_steps - status.step) * step_s)} left")
    if state in LIVE_STATES and status.heartbeat:
        parts.append(f"heartbeat {duration(time.time() - status.heartbeat)} ago")
    if status.reason:
        parts.append(one_line(status.reason))
    return "  ".join(parts)


def _show(line: str, *, terminal: bool, last: bool) -> None:
    if not terminal:
        print(line, flush=True)
        return
    width = shutil.get_terminal_size().columns
    cut = line if len(line) < width else line[: width - 2] + "…"
    print(f"\r\033[K{cut}", end="\n" if last else "", flush=True)


def _explain(run: RunDirectory, status: Status | None) -> None:
    if status is not None and status.exit_reason:
        print(one_line(status.exit_reason))
    tail = [one_line(line) for line in run.log_tail(4096).splitlines()[-8:]]
    if tail:
        print(f"end of {run.path / 'log.txt'}:", *(f"  {line}" for line in tail), sep="\n")
