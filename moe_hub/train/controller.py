"""What people ask of a running trainer, by signal or by control file; taken between two steps."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from moe_hub.runs import control


class Controller:
    """Collects requests. SIGINT and SIGTERM ask to save and stop; a second SIGINT stops at once."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.stop_reason = ""
        self.paused = False
        self.save_wanted = False
        self.settings: dict[str, float] = {}
        self.interrupted = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Controller:
        for number, handler in ((signal.SIGINT, self._interrupted), (signal.SIGTERM, self._terminated)):
            try:
                self._previous[number] = signal.signal(number, handler)
            except ValueError:  # not the main thread: the caller keeps its own handlers
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def poll(self) -> None:
        """Takes the waiting control files."""
        for request in control.take(self.run_dir):
            if request.action == "stop":
                self.stop_reason = self.stop_reason or "stopped on request"
            elif request.action == "save":
                self.save_wanted = True
            elif request.action == "set":
                self.settings.update(request.values)
            else:
                self.paused = request.action == "pause"

    def take_save(self) -> bool:
        """Whether a checkpoint was asked for since the last call."""
        wanted, self.save_wanted = self.save_wanted, False
        return wanted

    def take_settings(self) -> dict[str, float]:
        """Settings that were changed since the last call."""
        changed, self.settings = self.settings, {}
        return changed

    def _interrupted(self, _signal: int, _frame: FrameType | None) -> None:
        if self.stop_reason or self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        self._stop("stopped by Ctrl-C")

    def _terminated(self, _signal: int, _frame: FrameType | None) -> None:
        self._stop("stopped by SIGTERM")

    def _stop(self, reason: str) -> None:
        self.stop_reason = self.stop_reason or reason
