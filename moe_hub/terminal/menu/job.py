"""A process that a screen started: what is new in its output, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moe_hub.workbench.jobs import Jobs


@dataclass(frozen=True)
class News:
    """The JSON lines since the last look; `state` is running, done, stopped or failed."""

    events: list[dict[str, Any]]
    state: str
    error: str


class ScreenJob:
    """At most one process of `python -m MODULE` for a screen."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self._id = ""
        self._offset = 0

    @property
    def under_way(self) -> bool:
        return bool(self._id)

    def start(self, module: str, arguments: Sequence[str], stdin: str = "", *, offline: bool = True) -> None:
        """Starts it, after a stop of what still runs; raises `RunError` where too many run."""
        self.stop()
        self._id, self._offset = self.jobs.start(module, arguments, stdin, offline=offline), 0

    def stop(self) -> None:
        """Ends it; `news` says when it is gone."""
        if self._id:
            self.jobs.stop(self._id)

    def news(self) -> News | None:
        """What is new; None where nothing runs. After the last news nothing runs."""
        if not self._id:
            return None
        answer = self.jobs.read(self._id, self._offset)
        self._offset = answer["offset"]
        if answer["state"] != "running":
            self._id = ""
        lines = [line for line in answer["text"].splitlines() if line.strip()]
        return News([json.loads(line) for line in lines], answer["state"], answer["error"])
