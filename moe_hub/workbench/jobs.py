"""Work that needs torch, in processes of its own: each can be stopped, and its memory comes back when it ends.

A job belongs to the process that started it (a server, one of its workers, the menu in a terminal) and ends with it.
All that is known of it lies in its folder, so that every worker of a server can read it and stop it:
`output` and `errors`, `job.json` (whose process it is, since when), `stopped` and `ended` once it is.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import orjson
import psutil

from moe_hub.errors import RunError
from moe_hub.runs.files import read_regular, replace_file
from moe_hub.runs.status import boot_id
from moe_hub.runs.store import file_lock
from moe_hub.workbench.private_folder import private_folder

MOST_AT_ONCE = 2
LONGEST_S = 1800.0
PATIENCE_S = 3.0
MOST_READ = 1 << 20
MOST_REMEMBERED = 50
BEGINNING_S = 60.0  # a folder without a process for so long was left by a server that was killed
_ID = re.compile(r"[0-9a-f]{16}")
_KEPT_BACK = "MOE_HUB_TOKEN"  # what opens the page is no business of a job


@dataclass(frozen=True)
class Process:
    """A process that cannot be confused with a later one of the same pid."""

    pid: int
    create_time: float
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Process:
        try:
            return cls(pid, psutil.Process(pid).create_time(), boot_id())
        except psutil.Error:
            return cls(pid, 0.0, boot_id())

    def alive(self) -> bool:
        """Whether it is there; one that has ended but is not reaped still is, so that its group can be signalled."""
        return self._found() is not None

    def ended(self) -> bool:
        """Whether it does nothing any more, reaped or not."""
        found = self._found()
        try:
            return found is None or found.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            return True

    def _found(self) -> psutil.Process | None:
        try:
            found = psutil.Process(self.pid)
            same = self.boot_id == boot_id() and abs(found.create_time() - self.create_time) < 1.0
        except psutil.Error:
            return None
        return found if same else None

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the group that the process leads."""
        if self.alive():
            with contextlib.suppress(OSError):
                os.killpg(self.pid, number)


@dataclass(frozen=True)
class Job:
    """One job on disk; `begun` is in s of the machine's own clock, which nobody sets."""

    folder: Path
    process: Process
    server: Process
    begun: float
    longest_s: float = LONGEST_S

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs, 1 where it ended unseen."""
        code = self._written_code()
        # Its server writes how it ended before it reaps it; where that is gone too, nobody will.
        if code is None and (not self.process.alive() or (self.server.ended() and self.process.ended())):
            code = self._written_code()  # it may have ended between the two looks
            return 1 if code is None else code
        return code

    def _written_code(self) -> int | None:
        try:
            return int(read_regular(self.folder / "ended"))
        except (OSError, ValueError):
            return None

    @property
    def state(self) -> str:
        code = self.code
        if code is None:
            return "running"
        if (self.folder / "stopped").exists():
            return "stopped"
        return "done" if code == 0 else "failed"

    @property
    def overdue(self) -> bool:
        """Whether it has run too long, or its server is gone."""
        return time.monotonic() - self.begun > self.longest_s or self.server.ended()


class Jobs:
    """`start`, `read` and `stop` by id; those of this process are stopped when it ends."""

    def __init__(self, folder: Path, most: int = MOST_AT_ONCE, longest_s: float = LONGEST_S) -> None:
        self.folder = folder
        self.most = most
        self.longest_s = longest_s
        self._own: dict[str, Job] = {}
        atexit.register(self.stop_all)

    def start(self, module: str, arguments: Sequence[str], stdin: str = "", *, offline: bool = True) -> str:
        """Runs `python -m module arguments`; raises `RunError` where too many jobs run already.

        Only what a person asked for by name from the Hub is run without `offline`.
        """
        private_folder(self.folder.parent)
        private_folder(self.folder)
        try:
            with file_lock(self.folder / ".lock", timeout_s=10):
                self._tidy()
                running = sum(job.state == "running" for job in self._all())
                if running >= self.most:
                    raise RunError(f"{running} jobs run already; stop one or wait until it is done")
                return self._open([sys.executable, "-m", module, *arguments], stdin, offline)
        except (OSError, filelock.Timeout) as error:
            raise RunError(f"the job cannot be started: {getattr(error, 'strerror', None) or error}") from None

    def read(self, job_id: str, offset: int) -> dict[str, Any]:
        """Output from a byte offset on, where it ends, and what the job is doing."""
        job = self._job(job_id)
        state = job.state  # before the output is read, so that a finished job's answer is whole
        if state == "running" and job.overdue:
            self.stop(job_id)
        offset = max(0, offset)
        with (job.folder / "output").open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(min(offset, size))
            content = file.read(MOST_READ)
        if state == "running":  # an unfinished last line comes with the next answer
            content = content[: content.rfind(b"\n") + 1]
        return {
            "text": content.decode("utf-8", errors="replace"),
            "offset": min(offset, size) + len(content),
            "state": "running" if state != "running" and len(content) == MOST_READ else state,
            "error": _last_error(job) if state == "failed" else "",
        }

    def stop(self, job_id: str) -> None:
        """Ends a job: SIGTERM to its group, and SIGKILL where that is not enough. Does not wait."""
        _stop(self._job(job_id))

    def stop_all(self) -> None:
        """Ends the jobs of this process at once."""
        for job in list(self._own.values()):
            job.process.signal(signal.SIGKILL)
            shutil.rmtree(job.folder, ignore_errors=True)

    def end_left_behind(self) -> None:
        """Ends at once the jobs whose process, a server or a menu, was killed."""
        for job in self._all():
            if job.server.ended():
                job.process.signal(signal.SIGKILL)

    def _job(self, job_id: str) -> Job:
        job = _read_job(self.folder / job_id) if _ID.fullmatch(job_id) else None
        if job is None:
            raise RunError("this job is not known any more; start it again")
        return job

    def _all(self) -> Iterator[Job]:
        for folder in self.folder.iterdir():
            job = _read_job(folder) if _ID.fullmatch(folder.name) else None
            if job is not None:
                yield job

    def _open(self, command: list[str], stdin: str, offline: bool) -> str:
        job_id = secrets.token_hex(8)
        folder = private_folder(self.folder / job_id)
        (folder / "input").write_text(stdin, encoding="utf-8", errors="replace")
        with (
            (folder / "input").open("rb") as given,
            (folder / "output").open("wb") as out,
            (folder / "errors").open("wb") as errors,
        ):
            opened = subprocess.Popen(
                command, stdin=given, stdout=out, stderr=errors, start_new_session=True, env=_environment(offline)
            )
        job = Job(folder, Process.of(opened.pid), Process.of(os.getpid()), time.monotonic(), self.longest_s)
        threading.Thread(target=_note_end, args=[opened, folder], name=f"job {job_id}", daemon=True).start()
        replace_file(folder / "job.json", orjson.dumps(_values(job)), sync=False)
        self._own[job_id] = job
        return job_id

    def _tidy(self) -> None:
        """Ends jobs that are overdue, and forgets the oldest of those that have ended."""
        ended = []
        for job in self._all():
            if job.state != "running":
                ended.append(job)
            elif job.overdue:
                _stop(job)
        for job in sorted(ended, key=lambda each: each.begun)[:-MOST_REMEMBERED]:
            self._own.pop(job.folder.name, None)
            shutil.rmtree(job.folder, ignore_errors=True)
        for folder in self.folder.iterdir():
            with contextlib.suppress(OSError):
                unfinished = _ID.fullmatch(folder.name) and not (folder / "job.json").exists()
                if unfinished and time.time() - folder.stat().st_mtime > BEGINNING_S:
                    shutil.rmtree(folder, ignore_errors=True)


def _values(job: Job) -> dict[str, Any]:
    """What job.json holds."""
    return {
        "process": vars(job.process), "server": vars(job.server), "begun": job.begun, "longest_s": job.longest_s,
    }  # fmt: skip


def _read_job(folder: Path) -> Job | None:
    try:
        values = orjson.loads(read_regular(folder / "job.json"))
        process, server = Process(**values["process"]), Process(**values["server"])
        return Job(folder, process, server, float(values["begun"]), float(values.get("longest_s", LONGEST_S)))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _note_end(opened: subprocess.Popen[bytes], folder: Path) -> None:
    """Writes the exit code before the process is reaped, so that nobody finds it gone without one."""
    code = _wait_unreaped(opened)
    with contextlib.suppress(OSError):
        replace_file(folder / "ended", str(code).encode(), sync=False)
    opened.wait()


def _wait_unreaped(opened: subprocess.Popen[bytes]) -> int:
    """Waits for the end and leaves the process to be reaped where the system can do that."""
    if hasattr(os, "waitid"):
        with contextlib.suppress(OSError):
            found = os.waitid(os.P_PID, opened.pid, os.WEXITED | os.WNOWAIT)
            if found is not None:
                return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
    return opened.wait()


def _stop(job: Job) -> None:
    if job.code is not None:
        return
    (job.folder / "stopped").touch()
    job.process.signal(signal.SIGTERM)
    killer = threading.Timer(PATIENCE_S, job.process.signal, [signal.SIGKILL])
    killer.daemon = True
    killer.start()


def _last_error(job: Job) -> str:
    text = (job.folder / "errors").read_bytes()[-4000:].decode("utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ")[:1000] if lines else "it ended without saying why"


def _environment(offline: bool) -> dict[str, str]:
    """The environment, in which the job finds this package also in a checkout."""
    root = Path(__file__).resolve().parents[2]
    found = {name: value for name, value in os.environ.items() if name != _KEPT_BACK} | {"PYTHONUNBUFFERED": "1"}
    if offline:
        found |= {"TRANSFORMERS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    if (root / "moe_hub").is_dir() and root.name not in ("site-packages", "dist-packages"):
        found["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    return found
