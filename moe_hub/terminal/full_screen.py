"""`moe-hub menu`: a small process that starts the menu, waits for it, and leaves the terminal as it was.

The menu may be killed at any moment (kill -9, out of memory). The terminal would then stay on the alternate screen,
without echo and with a mouse that writes text: this process, which does nothing else, sets it right again. Trainers
are no children of either.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

MENU = "moe_hub.terminal.menu"
MISSING = (
    "the menu needs Textual, which is not installed; install it with: pip install 'moe-hub[terminal]'\n"
    "All else works without it: moe-hub --help"
)
# Leave the alternate screen; show the cursor; no mouse, focus, paste or resize reports; plain keys; wrap; colours.
RESET = (
    "\x1b[?2026l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?1016l\x1b[?1004l\x1b[?2004l\x1b[?2048l"
    "\x1b[<u\x1b[?1049l\x1b[?7h\x1b[?25h\x1b[0m"
)
JOBS_VARIABLE = "MOE_HUB_MENU_JOBS"
AWAKE_S = 0.05  # the shell wakes this process and its child one after the other


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="moe-hub menu", description="The workbench on the whole terminal.")
    parser.add_argument("--runs-dir", metavar="DIR", type=Path, default=Path("runs"), help="default: runs")
    parser.add_argument(
        "--data-dir", metavar="DIR", type=Path, help="uploads, presets, cache; default: $MOE_HUB_DATA, else data"
    )
    parser.add_argument("--light", action="store_true", help="for a light background; Ctrl-T changes it")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the menu; exit code 0, 2 without a terminal or without Textual, 1 where the menu ended by itself."""
    options = build_parser().parse_args(arguments)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("error: the menu needs a terminal; moe-hub --help lists the commands that do not", file=sys.stderr)
        return 2
    if importlib.util.find_spec("textual") is None:
        print(f"error: {MISSING}", file=sys.stderr)
        return 2
    words = ["--runs-dir", str(options.runs_dir), *(["--data-dir", str(options.data_dir)] if options.data_dir else [])]
    jobs = tempfile.mkdtemp(prefix="moe-hub-menu-")
    try:
        return guard([sys.executable, "-m", MENU, *words, *(["--light"] if options.light else [])], jobs)
    finally:
        _end_jobs(Path(jobs))
        shutil.rmtree(jobs, ignore_errors=True)


def guard(command: Sequence[str], jobs: str) -> int:
    """Runs a full-screen program to its end and restores the terminal; its exit code, or 1 where a signal ended it."""
    import termios

    before = termios.tcgetattr(sys.stdin)
    with _deaf(signal.SIGINT, signal.SIGQUIT):
        program = subprocess.Popen(command, env={**os.environ, JOBS_VARIABLE: jobs})
        code = _wait(program.pid)
        program.returncode = code
    with contextlib.suppress(termios.error, OSError):
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
    if code != 0:
        with contextlib.suppress(termios.error, OSError):
            termios.tcflush(sys.stdin, termios.TCIFLUSH)  # what the mouse wrote meanwhile
        sys.stdout.write(RESET)
        sys.stdout.flush()
    if code < 0:
        print(f"the menu was ended by signal {-code}; runs go on, see moe-hub runs", file=sys.stderr)
        return 1
    return code


def _wait(pid: int) -> int:
    """The exit code of a child, negative for a signal. Where it is held (Ctrl-Z), so is this process."""
    while True:
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return os.waitstatus_to_exitcode(status)
        os.kill(os.getpid(), signal.SIGSTOP)
        _continue(pid)


def _continue(pid: int) -> None:
    """Lets a held child go on. A shell's `fg` has done so already, for it wakes all processes of the job; a second
    signal would make the child set up its screen, and a thread that reads keys, once more."""
    import psutil  # seldom needed, and the menu shall open at once

    time.sleep(AWAKE_S)
    with contextlib.suppress(OSError, psutil.Error):
        if psutil.Process(pid).status() == psutil.STATUS_STOPPED:
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def _deaf(*numbers: signal.Signals):  # type: ignore[no-untyped-def]
    """Leaves these signals to the child, which has its own ideas about them."""
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}  # not SIG_IGN: it is inherited
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_jobs(folder: Path) -> None:
    """Ends what a killed menu left running: text, inspections and the dashboard are its own, trainers are not."""
    if any(folder.iterdir()):
        from moe_hub.workbench.jobs import Jobs

        for each in folder.iterdir():
            Jobs(each).end_left_behind()
