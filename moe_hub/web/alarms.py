"""The alarms of a run as the page shows them, found at most so often that a long run that grows costs little."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from moe_hub.figures import registry
from moe_hub.figures.alarms import Alarm, alarms
from moe_hub.runs.history import RunHistory

SHARE = 0.02  # of the time, at most, goes into the alarms of one run
MOST_KEPT = 64


@dataclass(frozen=True)
class _Found:
    version: str
    at: float
    cost_s: float
    lines: list[dict[str, Any]]


class Alarms:
    """`of` gives what is wrong with a run; with very many rows an answer may be some seconds old."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Found] = OrderedDict()

    def of(self, history: RunHistory) -> list[dict[str, Any]]:
        """[{"kind", "step", "text", "figure"}], the most serious first; `figure` is the key of one that shows it."""
        if not history.complete:
            return []
        with self._lock:
            kept = self._kept.get(history.run_id)
        begin = time.monotonic()
        if kept and (kept.version == history.version or begin - kept.at < kept.cost_s / SHARE):
            return kept.lines
        lines = [_line(alarm) for alarm in alarms(history)]
        end = time.monotonic()
        with self._lock:
            self._kept[history.run_id] = _Found(history.version, end, end - begin, lines)
            self._kept.move_to_end(history.run_id)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return lines


def _line(alarm: Alarm) -> dict[str, Any]:
    figure = next((key for key, spec in registry.FIGURES.items() if spec.fits([alarm.metric])), "")
    return {"kind": alarm.kind, "step": alarm.step, "text": alarm.text, "figure": figure}
