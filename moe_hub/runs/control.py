"""Requests to a running trainer: one file each in control/, taken in order between two steps."""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from moe_hub.errors import RunError
from moe_hub.runs.files import read_regular, replace_file

ACTIONS = ("pause", "resume", "save", "stop", "set")
SETTABLE = {"ghost_threshold": (0.0, 1.0)}  # what `set` may change in a running trainer: name -> lowest, highest value
CONTROL_FOLDER = "control"
_MOST_BYTES = 4096


@dataclass(frozen=True)
class Request:
    """One request; `time` is unix seconds, `values` are what a `set` changes (empty for every other action)."""

    id: str
    action: str
    time: float
    values: Mapping[str, float] = field(default_factory=dict)


def request(run_dir: Path, action: str, **values: float) -> str:
    """Leaves a request for the trainer and returns its id; raises `RunError`.

    `request(run, "set", ghost_threshold=0.02)` changes a setting of the running trainer; the other actions take no
    values. Requests are taken in the order in which they were left, also when the clock was set back between them.
    """
    problem = _problem(action, values)
    if problem:
        raise RunError(f"run {run_dir.name}: {problem}")
    folder = run_dir / CONTROL_FOLDER
    try:
        folder.mkdir(exist_ok=True)
        now = time.time_ns()
        number = max([now, *(_number(path) + 1 for path in _waiting_files(folder))])
        name = f"{number:020d}-{secrets.token_hex(4)}"
        content = {"id": name, "action": action, "time": now / 1e9, **({"values": values} if values else {})}
        replace_file(folder / f"{name}.json", orjson.dumps(content))
    except OSError as error:
        raise RunError(
            f"run {run_dir.name}: the request {action} cannot be written: {error.strerror or error}; "
            "check that the runs folder is there and can be written"
        ) from None
    return name


def waiting(run_dir: Path) -> list[Request]:
    """The requests that the trainer has not taken yet, oldest first; takes none."""
    found = [_read(path) for path in _waiting_files(run_dir / CONTROL_FOLDER)]
    return [request for request in found if request is not None]


def take(run_dir: Path) -> list[Request]:
    """The waiting requests, oldest first; their files are removed, which tells the sender that they were taken.

    What is no request is removed too. One that cannot be removed is left out: it would be obeyed at every step.
    """
    taken = []
    for path in _waiting_files(run_dir / CONTROL_FOLDER):
        found = _read(path)
        try:
            path.unlink()
        except OSError:
            continue
        if found is not None:
            taken.append(found)
    return taken


def _waiting_files(folder: Path) -> list[Path]:
    """Request files, oldest first; those being written begin with a dot."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [folder / name for name in sorted(names) if name.endswith(".json") and not name.startswith(".")]


def _number(path: Path) -> int:
    number = path.name.partition("-")[0]
    return int(number) if len(number) == 20 and number.isdecimal() and number.isascii() else 0


def _read(path: Path) -> Request | None:
    try:
        content = orjson.loads(read_regular(path, _MOST_BYTES))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    values, sent = content.get("values", {}), content.get("time")
    if _problem(content.get("action"), values):
        return None
    return Request(path.stem, content["action"], float(sent) if isinstance(sent, int | float) else 0.0, values)


def _problem(action: Any, values: Any) -> str:
    """What is wrong with a request; empty where nothing is."""
    if action not in ACTIONS:
        return f"action {action!r} is unknown; allowed: {', '.join(ACTIONS)}"
    if not isinstance(values, Mapping):
        return "values must be a mapping of names to numbers"
    if action != "set":
        return f"action {action} takes no values, found {', '.join(map(str, values))}" if values else ""
    if not values:
        return f"action set needs a value; settable: {', '.join(SETTABLE)}"
    for name, value in values.items():
        if name not in SETTABLE:
            return f"{name} cannot be set while the run is running; settable: {', '.join(SETTABLE)}"
        low, high = SETTABLE[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f"{name} = {value!r} is not a number"
        if not low <= value <= high:
            return f"{name} = {value!r}: allowed are {low:g} to {high:g}"
    return ""
