"""Requests to a running trainer: one file each in control/, taken in order between two steps."""

from __future__ import annotations

import contextlib
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

from moe_hub.errors import RunError
from moe_hub.runs.files import replace_file

ACTIONS = ("pause", "resume", "save", "stop")
CONTROL_FOLDER = "control"
_MOST_BYTES = 4096


@dataclass(frozen=True)
class Request:
    """One request; `time` is unix seconds."""

    id: str
    action: str
    time: float


def request(run_dir: Path, action: str) -> str:
    """Leaves a request for the trainer and returns its id; raises `RunError`."""
    if action not in ACTIONS:
        raise RunError(f"action {action!r} is unknown; allowed: {', '.join(ACTIONS)}")
    now = time.time_ns()
    name = f"{now:020d}-{secrets.token_hex(4)}"
    content = orjson.dumps({"id": name, "action": action, "time": now / 1e9})
    try:
        (run_dir / CONTROL_FOLDER).mkdir(exist_ok=True)
        replace_file(run_dir / CONTROL_FOLDER / f"{name}.json", content)
    except OSError as error:
        raise RunError(f"run {run_dir.name}: the request {action} cannot be written: {error.strerror}") from None
    return name


def take(run_dir: Path) -> list[Request]:
    """The waiting requests, oldest first; their files are removed, which tells the sender that they were taken."""
    try:
        files = sorted(
            path for path in (run_dir / CONTROL_FOLDER).iterdir()
            if path.suffix == ".json" and not path.name.startswith(".")
        )  # fmt: skip
    except OSError:
        return []
    taken = []
    for path in files:
        found = _read(path)
        with contextlib.suppress(OSError):
            path.unlink()
        if found is not None and not path.exists():  # one that cannot be removed would be obeyed at every step
            taken.append(found)
    return taken


def _read(path: Path) -> Request | None:
    try:
        with path.open("rb") as file:
            values = orjson.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError):
        return None
    if not isinstance(values, dict) or values.get("action") not in ACTIONS:
        return None
    sent = values.get("time")
    return Request(path.stem, values["action"], float(sent) if isinstance(sent, int | float) else 0.0)
