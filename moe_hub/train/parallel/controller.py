"""Requests to a training of several processes: rank 0 takes them, all obey at the same step."""

from __future__ import annotations

from pathlib import Path

from moe_hub.ranks import Ranks
from moe_hub.runs.control import SETTABLE
from moe_hub.train.controller import Controller


class SharedController(Controller):
    """What rank 0 reads from the control files, and a stop signal to any of the processes, reach all with `poll`.

    So between two polls nothing but what `poll` has told may decide: a signal that comes in between is not seen by all.
    """

    def __init__(self, run_dir: Path, ranks: Ranks) -> None:
        super().__init__(run_dir)
        self.ranks = ranks
        self.signalled = ""

    def poll(self) -> None:
        """Takes the waiting requests and tells all; a collective."""
        if self.ranks.main:
            super().poll()
        words = [float(bool(self.stop_reason or self.signalled))]
        told = [float(self.paused), float(self.save_wanted)]
        told += [float(name in self.settings) for name in SETTABLE]
        told += [self.settings.get(name, 0.0) for name in SETTABLE]
        words += told if self.ranks.main else [0.0] * len(told)
        stop, paused, save, *settings = self.ranks.sum(words)
        self.paused, self.save_wanted = bool(paused), bool(save)
        changed, values = settings[: len(SETTABLE)], settings[len(SETTABLE) :]
        self.settings = {name: values[i] for i, name in enumerate(SETTABLE) if changed[i]}
        if stop and not self.stop_reason:
            self.stop_reason = self.signalled or "stopped by a signal to one of the processes"

    def _stop(self, reason: str) -> None:
        self.signalled = self.signalled or reason
