"""Work that needs torch, in processes of its own: each can be stopped, and its memory comes back when it ends.

A job is a child of the server (or of the menu in a terminal) and ends with it. Its output goes to a file, from which
pages read what is new.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moe_hub.errors import RunError
from moe_hub.workbench.private_folder import private_folder

MOST_AT_ONCE = 2
LONGEST_S = 1800.0
PATIENCE_S = 3.0
MOST_READ = 1 << 20
MOST_REMEMBERED = 50


@dataclass
class Job:
    """One process; `stopped` once a person ended it."""

    process: subprocess.Popen[bytes]
    folder: Path
    begun: float = field(default_factory=time.monotonic)
    stopped: bool = False

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def problems(self) -> Path:
        return self.folder / "errors"


class Jobs:
    """`start`, `read` and `stop` by id; all are stopped when the server ends."""

    def __init__(self, folder: Path, most: int = MOST_AT_ONCE) -> None:
        self.folder = folder
        self.most = most
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        atexit.register(self.stop_all)

    def start(self, module: str, arguments: Sequence[str], stdin: str = "", *, offline: bool = True) -> str:
        """Runs `python -m module arguments`; raises `RunError` where too many jobs run already.

        Only what a person asked for by name from the Hub is run without `offline`.
        """
        with self._lock:
            running = [job for job in self._jobs.values() if job.process.poll() is None]
            if len(running) >= self.most:
                raise RunError(f"{len(running)} jobs run already; stop one or wait until it is done")
            job_id = secrets.token_hex(8)
            self._jobs[job_id] = self._open([sys.executable, "-m", module, *arguments], job_id, stdin, offline)
            self._forget_old()
        return job_id

    def read(self, job_id: str, offset: int) -> dict[str, Any]:
        """Output from a byte offset on, where it ends, and what the job is doing."""
        job = self._job(job_id)
        if job.process.poll() is None and time.monotonic() - job.begun > LONGEST_S:
            self.stop(job_id)
        state = _state(job)  # before the output is read, so that a finished job's answer is whole
        with job.output.open("rb") as file:
            file.seek(max(0, offset))
            content = file.read(MOST_READ)
        if state == "running":  # an unfinished last line comes with the next answer
            content = content[: content.rfind(b"\n") + 1]
        return {
            "text": content.decode("utf-8", errors="replace"),
            "offset": max(0, offset) + len(content),
            "state": "running" if state != "running" and len(content) == MOST_READ else state,
            "error": _last_error(job) if state == "failed" else "",
        }

    def stop(self, job_id: str) -> None:
        """Ends a job: SIGTERM to its group, and SIGKILL where that is not enough. Does not wait."""
        job = self._job(job_id)
        if job.process.poll() is not None:
            return
        job.stopped = True
        _signal(job, signal.SIGTERM)
        threading.Timer(PATIENCE_S, _signal, [job, signal.SIGKILL]).start()

    def stop_all(self) -> None:
        """Ends every job at once."""
        for job in list(self._jobs.values()):
            _signal(job, signal.SIGKILL)
            shutil.rmtree(job.folder, ignore_errors=True)

    def _job(self, job_id: str) -> Job:
        if job_id not in self._jobs:
            raise RunError("this job is not known any more; start it again")
        return self._jobs[job_id]

    def _open(self, command: list[str], job_id: str, stdin: str, offline: bool) -> Job:
        private_folder(self.folder.parent)
        folder = private_folder(private_folder(self.folder) / job_id)
        (folder / "input").write_text(stdin, encoding="utf-8")
        with (
            (folder / "input").open("rb") as given,
            (folder / "output").open("wb") as out,
            (folder / "errors").open("wb") as errors,
        ):
            process = subprocess.Popen(
                command, stdin=given, stdout=out, stderr=errors, start_new_session=True, env=_environment(offline)
            )
        return Job(process, folder)

    def _forget_old(self) -> None:
        for job_id in [name for name, job in self._jobs.items() if job.process.poll() is not None][:-MOST_REMEMBERED]:
            shutil.rmtree(self._jobs.pop(job_id).folder, ignore_errors=True)


def _state(job: Job) -> str:
    code = job.process.poll()
    if code is None:
        return "running"
    if job.stopped:
        return "stopped"
    return "done" if code == 0 else "failed"


def _signal(job: Job, number: signal.Signals) -> None:
    if job.process.poll() is None:  # not reaped yet, so the pid is still this job's
        with contextlib.suppress(OSError):
            os.killpg(job.process.pid, number)


def _last_error(job: Job) -> str:
    text = job.problems.read_bytes()[-4000:].decode("utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ")[:1000] if lines else "it ended without saying why"


def _environment(offline: bool) -> dict[str, str]:
    """The environment, in which the job finds this package also in a checkout."""
    root = Path(__file__).resolve().parents[2]
    found = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if offline:
        found |= {"TRANSFORMERS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    if (root / "moe_hub").is_dir() and root.name not in ("site-packages", "dist-packages"):
        found["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    return found
