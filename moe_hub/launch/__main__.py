"""`python -m moe_hub.launch --queue RUNS_DIR`: works the queue of a runs folder until no run waits."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from moe_hub.errors import MoeHubError
from moe_hub.launch.queueing import run_queue


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0, or 1 where the queue cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m moe_hub.launch", description="Trains the queued runs in turn.")
    parser.add_argument("--queue", metavar="RUNS_DIR", type=Path, required=True, help="folder of the runs")
    parser.add_argument("command", nargs="*", help="another program instead of the trainer")
    options = parser.parse_args(arguments)
    try:
        run_queue(options.queue, command=options.command or None)
    except MoeHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
