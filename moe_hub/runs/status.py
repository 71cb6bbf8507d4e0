"""What a run is doing: status.json, replaced in one step, and whether the process that wrote it still lives."""

from __future__ import annotations

import dataclasses
import errno
import math
import os
import socket
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import psutil

from moe_hub.runs.files import plain, read_regular, replace_file

STATES = (
    "queued", "starting", "running", "paused", "stopping", "finished", "stopped", "failed", "interrupted",
)  # fmt: skip
LIVE_STATES = frozenset({"starting", "running", "paused", "stopping"})
FINAL_STATES = frozenset({"finished", "stopped", "failed", "interrupted"})
# A request to resume is for the trainer then, else for the launcher. "running": it may have taken a pause and not have
# said so yet; if it has not, nothing changes.
HOLDING_STATES = frozenset({"paused", "running"})

STATUS_FILE = "status.json"
START_PATIENCE_S = 8.0  # between the making of a run and the first identity of its process
REMOTE_PATIENCE_S = 60.0  # a process on another host can only be judged by its heartbeat
CREATE_TIME_TOLERANCE_S = 1.0  # where only the wall clock's create time is known
FAILURE_KINDS = (
    "out_of_memory", "non_finite", "data", "config", "disk_full", "folder_lost", "run", "killed", "lost_process",
    "error",
)  # fmt: skip
_LARGEST_STATUS = 1 << 20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_SECOND_LOOK_S = 0.002


@dataclass(frozen=True)
class Status:
    """The content of status.json. Times are unix seconds.

    `process_start_s` counts from the boot of the machine: unlike the create time it stands still when the clock is set.
    `launch_id` names the start that a launcher is about to make, or made last. `failure` is empty unless the run failed
    or was interrupted; its keys: `kind` (one of `FAILURE_KINDS`), `cause`, `advice` and `log`, the end of the output.
    """

    state: str
    step: int = 0
    max_steps: int = 0
    reason: str = ""
    pid: int | None = None
    process_create_time: float | None = None
    process_start_s: float | None = None
    boot_id: str = ""
    host: str = ""
    heartbeat: float = 0.0
    device: str = ""
    world_size: int = 1
    parameters: dict[str, Any] = field(default_factory=dict)
    exit_reason: str = ""
    attempt: int = 0
    metrics: dict[str, float] = field(default_factory=dict)  # last value of each scalar metric
    launch_id: str = ""
    failure: dict[str, str] = field(default_factory=dict)


def write_status(run_dir: Path, status: Status) -> None:
    """Replaces status.json in one step. Raises `OSError` where the folder cannot be written.

    Only a status that stays is forced to the disk: when the power fails, a live one is void whatever it says. On a full
    disk the old file is overwritten in the room that it has, so that a reader learns that the disk is full.
    """
    content = orjson.dumps(plain(_values(status)), option=orjson.OPT_INDENT_2)
    try:
        replace_file(run_dir / STATUS_FILE, content, sync=status.state not in LIVE_STATES)
    except OSError as error:
        if error.errno not in _NO_ROOM or not _overwrite(run_dir / STATUS_FILE, content):
            raise


def _overwrite(path: Path, content: bytes) -> bool:
    """Puts the content where the file's own blocks lie, with one system call; False where they are too few."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or len(content) > max(info.st_size, 512 * info.st_blocks):
            return False
        padded = content.ljust(info.st_size)  # blanks after JSON say nothing
        return os.pwrite(descriptor, padded, 0) == len(padded)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def read_status(run_dir: Path) -> Status | None:
    """The status, or None where there is none that can be read; unknown keys and wrong types are left out."""
    try:
        content = read_regular(run_dir / STATUS_FILE, _LARGEST_STATUS)
        values = _parse(content)
        if values is None and content:  # it may be written over at this moment, see `write_status`
            time.sleep(_SECOND_LOOK_S)
            values = _parse(read_regular(run_dir / STATUS_FILE, _LARGEST_STATUS))
    except OSError:
        return None
    if not isinstance(values, dict) or values.get("state") not in STATES:
        return None
    known = {}
    for entry in dataclasses.fields(Status):
        checked = _checked(entry.name, values.get(entry.name))
        if checked is not None:
            known[entry.name] = checked
    return Status(**known)


def _parse(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except ValueError:
        return None


def process_identity() -> dict[str, Any]:
    """Who this process is, as `Status` takes it: pid, create time, start after boot, boot and host."""
    return {
        "pid": os.getpid(),
        "process_create_time": psutil.Process().create_time(),
        "process_start_s": _start_after_boot(os.getpid()),
        "boot_id": boot_id(),
        "host": socket.gethostname(),
    }


NO_PROCESS: dict[str, Any] = {
    "pid": None, "process_create_time": None, "process_start_s": None, "boot_id": "", "host": "",
}  # fmt: skip


@cache
def boot_id() -> str:
    """A text that changes when the machine starts again; empty where the system has none (then it is not compared)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _start_after_boot(pid: int) -> float | None:
    """Seconds from boot to the start of a process, of /proc/PID/stat (proc(5), field 22); None where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def is_alive(status: Status) -> bool:
    """Whether the process that the status names still runs: same pid, create time and boot; not a zombie.

    A process on another host counts as alive while its heartbeat is younger than `REMOTE_PATIENCE_S`.
    """
    if not is_local(status):
        return time.time() - status.heartbeat < REMOTE_PATIENCE_S
    return local_process(status) is not None


def is_local(status: Status) -> bool:
    """Whether the status was written on this host (or names none)."""
    return not status.host or status.host == socket.gethostname()


def local_process(status: Status) -> psutil.Process | None:
    """The living process that the status names, on this host; None where it is gone or the pid is a stranger's."""
    if not is_local(status) or status.pid is None or status.pid <= 1 or status.process_create_time is None:
        return None
    if status.boot_id and boot_id() and status.boot_id != boot_id():
        return None
    try:
        process = psutil.Process(status.pid)
        if not _same_start(status, process):
            return None
        return None if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) else process
    except (psutil.Error, OverflowError):
        return None


def _same_start(status: Status, process: psutil.Process) -> bool:
    """Whether the process with the status's pid began when the status says; else the pid was given to another."""
    start = _start_after_boot(process.pid)
    if start is not None and status.process_start_s is not None:
        return abs(start - status.process_start_s) < 0.001
    assert status.process_create_time is not None
    return bool(abs(process.create_time() - status.process_create_time) < CREATE_TIME_TOLERANCE_S)


def current_state(run_dir: Path) -> str:
    """The state as a reader shows it: a live state whose process is gone is `interrupted`."""
    return state_of(read_status(run_dir))


def state_of(status: Status | None) -> str:
    """As `current_state`, of a status already read; None, nothing readable, is `interrupted`."""
    if status is None:
        return "interrupted"
    if status.state not in LIVE_STATES:
        return status.state
    if status.state == "starting" and status.pid is None:
        return "starting" if abs(time.time() - status.heartbeat) < START_PATIENCE_S else "interrupted"
    return status.state if is_alive(status) else "interrupted"


def _values(status: Status) -> dict[str, Any]:
    return {entry.name: getattr(status, entry.name) for entry in dataclasses.fields(status)}


_INTEGERS = frozenset({"step", "max_steps", "pid", "world_size", "attempt"})
_FLOATS = frozenset({"process_create_time", "process_start_s", "heartbeat"})
_MAPPINGS = frozenset({"parameters", "metrics"})
_TEXTS = frozenset({"failure"})


def _checked(name: str, value: Any) -> Any:
    """The value if its type fits the field, else None."""
    if name in _INTEGERS:
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    if name in _FLOATS:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    if name == "metrics" and isinstance(value, Mapping):
        return {key: number for key, item in value.items() if (number := _as_float(item)) is not None}
    if name in _TEXTS:
        return {key: item for key, item in value.items() if isinstance(item, str)} if isinstance(value, dict) else None
    if name in _MAPPINGS:
        return value if isinstance(value, dict) else None
    return value if isinstance(value, str) else None


def _as_float(value: Any) -> float | None:
    if isinstance(value, int | float):
        return float(value)
    return (
        {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(value) if isinstance(value, str) else None
    )
