"""The metric readers of the runs that pages look at: one owner per file, the least recently used are let go."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from moe_hub.runs.history import RunHistory
from moe_hub.runs.reader import MetricReader
from moe_hub.runs.store import RunStore

MOST_OPEN = 40  # 20 overlaid runs on each of two pages


class Histories:
    """`of` gives the history of a run as its files are now; a reader only reads what is new."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._open: OrderedDict[str, tuple[threading.Lock, MetricReader]] = OrderedDict()

    def of(self, run_id: str) -> RunHistory:
        """The history of a run; raises `RunError` where there is none with this id."""
        run = self.store.open(run_id)
        with self._lock:
            if run_id not in self._open:
                self._open[run_id] = (threading.Lock(), MetricReader(run.path))
            self._open.move_to_end(run_id)
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
            lock, reader = self._open[run_id]
        with lock:
            reader.poll()
            return reader.history()

    def close(self, run_id: str) -> None:
        """Lets go of a run, so that it is read afresh when it is asked for again."""
        with self._lock:
            self._open.pop(run_id, None)

    def of_all(self, run_ids: Sequence[str]) -> list[RunHistory]:
        """Histories in the order of the ids."""
        return [self.of(run_id) for run_id in run_ids]
