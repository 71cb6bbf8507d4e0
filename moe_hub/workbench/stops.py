"""Carries a stop that was asked for on the page through its stages until the trainer is gone.

The time of the request lies in the run's control folder, so that a restarted server goes on where the last one was.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

from moe_hub import launch
from moe_hub.errors import RunError
from moe_hub.runs import control
from moe_hub.runs.files import replace_file
from moe_hub.runs.store import RunStore

MARK = ".stop-requested"
TICK_S = 0.2


class Stops:
    """`request` asks for a stop; `stage` tells how far it has come. A thread works while a stop is under way."""

    def __init__(self, store: RunStore, patience_s: float = launch.STOP_PATIENCE_S) -> None:
        self.store = store
        self.patience_s = patience_s
        self._lock = threading.Lock()
        self._stages: dict[str, tuple[float, str]] = {}
        self._worker: threading.Thread | None = None

    def request(self, run_id: str) -> None:
        """Asks the trainer to stop and sees to it that it does; raises `RunError`. Asking twice changes nothing."""
        run = self.store.open(run_id)
        with self._lock:
            if run_id in self._stages:
                return
            control.request(run.path, "stop")
            now = time.time()
            with contextlib.suppress(OSError):
                replace_file(run.path / control.CONTROL_FOLDER / MARK, f"{now}".encode())
            self._follow(run_id, now)

    def stage(self, run_id: str) -> dict[str, float | str] | None:
        """{"stage", "since"} of a stop under way, since in unix s; None where there is none."""
        with self._lock:
            if run_id not in self._stages and (since := self._marked(run_id)) is not None:
                self._follow(run_id, since)
            entry = self._stages.get(run_id)
        return {"stage": entry[1], "since": entry[0], "patience": self.patience_s} if entry else None

    def _marked(self, run_id: str) -> float | None:
        try:
            return float((self._folder(run_id) / control.CONTROL_FOLDER / MARK).read_text())
        except (OSError, ValueError):
            return None

    def _follow(self, run_id: str, since: float) -> None:
        self._stages[run_id] = (since, "requested")
        if self._worker is None or not self._worker.is_alive():
            self._worker = threading.Thread(target=self._work, name="stops", daemon=True)
            self._worker.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                pending = dict(self._stages)
                if not pending:
                    self._worker = None
                    return
            for run_id, (since, _) in pending.items():
                self._advance(run_id, since)
            time.sleep(TICK_S)

    def _advance(self, run_id: str, since: float) -> None:
        try:
            stage = launch.stop_stage(self._folder(run_id), since, patience_s=self.patience_s)
        except (RunError, OSError):
            stage = "gone"
        with self._lock:
            if stage == "gone":
                self._stages.pop(run_id, None)
                with contextlib.suppress(OSError):
                    (self._folder(run_id) / control.CONTROL_FOLDER / MARK).unlink()
            else:
                self._stages[run_id] = (since, stage)

    def _folder(self, run_id: str) -> Path:
        return self.store.runs_dir / run_id
