"""What the commands on runs share: the flag for the runs folder, and errors as exit codes.

Imports that take time stand inside the functions, so that `--help` and completion are quick.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from moe_hub.errors import MoeHubError, RunError

if TYPE_CHECKING:
    from moe_hub.runs.store import RunDirectory, RunStore


def runs_parser(name: str, description: str, *, run: bool = False) -> argparse.ArgumentParser:
    """A parser with `--runs-dir`, and with RUN where the command is about one run."""
    parser = argparse.ArgumentParser(prog=f"moe-hub {name}", description=description)
    if run:
        parser.add_argument("run", metavar="RUN", help="a run id, a part of one, or latest")
    parser.add_argument("--runs-dir", metavar="DIR", type=Path, default=Path("runs"), help="default: runs")
    return parser


class UnknownRun(RunError):
    """The command line names no run."""

    exit_code = 2


def open_store(runs_dir: Path) -> RunStore:
    """The runs under a folder, which need not exist."""
    from moe_hub.runs.store import RunStore

    return RunStore(runs_dir)


def find(store: RunStore, text: str) -> RunDirectory:
    """The run that the command line names; raises `UnknownRun`."""
    try:
        return store.find(text)
    except RunError as error:
        raise UnknownRun(str(error)) from None


def guarded(work: Callable[[], int]) -> int:
    """The exit code of the work; an error for people is one line, a reader that went away (`| head`) is none."""
    try:
        code = work()
        sys.stdout.flush()
        return code
    except MoeHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is written out at exit
        return 0
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 0
