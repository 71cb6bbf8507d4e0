"""`moe-hub watch RUN`: the status of a run as it changes, until it ends; in a terminal with its loss curve."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from moe_hub.terminal.command import find, guarded, open_store, runs_parser
from moe_hub.terminal.table import duration, number, one_line

if TYPE_CHECKING:
    from moe_hub.runs.status import Status
    from moe_hub.runs.store import RunDirectory

POLL_S = 1.0
LINE_EVERY_S = 10.0  # without a terminal, where a line is not drawn over
SHOWN = (("train/loss", "loss"), ("val/loss", "val loss"), ("val/exact_match", "exact match"),
         ("time/tokens_per_s", "tokens/s"))  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = runs_parser("watch", "Follows a run until it ends. Ctrl-C leaves the run alone.", run=True)
    parser.add_argument("--once", action="store_true", help="print the state of now and exit")
    parser.add_argument("--no-curve", action="store_true", help="in a terminal too: the line alone")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 0 where the run finished or was stopped, 1 where it failed or was interrupted.

    Ctrl-C leaves the run alone.
    """
    options = build_parser().parse_args(arguments)

    def work() -> int:
        run = find(open_store(options.runs_dir), options.run)
        terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        return watch(run, once=options.once, terminal=terminal, curve=not options.no_curve)

    return guarded(work)


def watch(
    run: RunDirectory, *, once: bool = False, terminal: bool = False, curve: bool = True, poll_s: float = POLL_S
) -> int:
    """Prints the run when it changes, and at its end the reason."""
    from moe_hub.runs.status import LIVE_STATES, state_of

    print(f"run {run.run_id}", flush=True)
    shown_state, shown_at = "", -LINE_EVERY_S
    screen = _screen(run, curve) if terminal else None
    while True:
        status = run.status()
        state = state_of(status)
        ended = state not in LIVE_STATES and state != "queued"
        line = line_of(state, status)
        if screen is not None:
            screen.show(line)
        elif once or ended or state != shown_state or time.monotonic() - shown_at >= LINE_EVERY_S:
            print(line, flush=True)
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
    from moe_hub.runs.status import LIVE_STATES
    from moe_hub.workbench.outlook import remaining_seconds

    if status is None:
        return state
    share = f" ({100 * status.step / status.max_steps:.0f} %)" if status.max_steps else ""
    parts = [f"{state}: step {status.step:,} of {status.max_steps:,}{share}"]
    parts += [f"{label} {number(status.metrics[name])}" for name, label in SHOWN if name in status.metrics]
    left = remaining_seconds(status, state)
    if left is not None:
        parts.append(f"{duration(left)} left")
    if state in LIVE_STATES and status.heartbeat:
        parts.append(f"heartbeat {duration(time.time() - status.heartbeat)} ago")
    if status.reason:
        parts.append(one_line(status.reason))
    return "  ".join(parts)


def _screen(run: RunDirectory, curve: bool) -> Screen:
    if not curve:
        return Screen()
    from moe_hub.terminal.watch_curve import CurveScreen

    return CurveScreen(run)


class Screen:
    """Lines in a terminal that are drawn over; without a curve one line."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._width = 0

    def lines(self, line: str, width: int, height: int) -> list[str]:
        """What to show, each line at most `width` characters wide (colours not counted)."""
        return [cut(line, width)]

    def show(self, line: str) -> None:
        """Draws what has changed, and leaves the cursor below."""
        size = shutil.get_terminal_size()
        if size.columns != self._width:
            self._shown = []  # the terminal has wrapped the old lines in its own way: leave them above
            self._width = size.columns
        lines = self.lines(line, size.columns - 1, size.lines - 2)
        up = f"\x1b[{len(self._shown)}F" if self._shown else ""
        pairs = zip(lines, [*self._shown, *[None] * len(lines)], strict=False)
        drawn = "".join("\n" if new == old else f"\x1b[2K{new}\n" for new, old in pairs)
        below = "\x1b[J" if len(self._shown) > len(lines) else ""
        sys.stdout.write(up + drawn + below)
        sys.stdout.flush()
        self._shown = lines


def cut(line: str, width: int) -> str:
    """The line, or as much of it as fits, with a sign that it was cut."""
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"


def _explain(run: RunDirectory, status: Status | None) -> None:
    if status is not None and status.exit_reason:
        print(one_line(status.exit_reason))
    tail = [one_line(line) for line in run.log_tail(4096).splitlines()[-8:]]
    if tail:
        print(f"end of {run.path / 'log.txt'}:", *(f"  {line}" for line in tail), sep="\n")
