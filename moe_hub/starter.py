"""The short-lived process between the launcher and what it starts.

`python -m moe_hub.starter LOG RUN_DIR ID COMMAND ...` opens the command in a session of its own, with its
output at the end of LOG, and ends at once. So the parent of a trainer is init before the launcher can end, or be killed
with all its descendants. The new process writes who it is into the status of RUN_DIR before it becomes the command: a
trainer that dies while it starts is known to be gone. An empty RUN_DIR and ID start a program that is no trainer.

Few imports and one thread: it begins quickly, and what it does between fork and exec is safe.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from moe_hub.runs.status import process_identity, read_status, write_status


def main(arguments: Sequence[str]) -> int:
    """Opens the command and returns; exit code 1, with a line on stderr, where it cannot be opened."""
    log_file, run_dir, launch_id, *command = arguments

    def become() -> None:
        if run_dir:
            _write_identity(Path(run_dir), launch_id)

    try:
        with open(log_file, "ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=become,
            )
    except subprocess.SubprocessError:  # all that is told of an exception in the new process
        print("another start of this run came first, or its folder cannot be written", file=sys.stderr)
        return 1
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    process.returncode = 0  # never waited for: silences the warning that it still runs
    return 0


def _write_identity(run_dir: Path, launch_id: str) -> None:
    """Puts this process into the status, where the status still waits for this very launch."""
    status = read_status(run_dir)
    if status is None or (status.state, status.launch_id, status.pid) != ("starting", launch_id, None):
        raise RuntimeError("the status waits for another launch")
    write_status(run_dir, replace(status, heartbeat=time.time(), **process_identity()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
