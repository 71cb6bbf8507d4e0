"""The metric readers of the runs that pages look at: one owner per file, the least recently used are let go."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence

from moe_hub.runs.history import RunHistory
from moe_hub.runs.live import LiveReader
from moe_hub.runs.store import CONFIG_FILE, RunStore

MOST_OPEN = 240
MOST_BYTES = 4 << 30  # of columns kept in memory


class Histories:
    """`of` gives the history of a run as its files are now; a reader only reads what is new."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self._root = os.fspath(store.runs_dir)
        self._lock = threading.Lock()
        self._open: OrderedDict[str, LiveReader] = OrderedDict()

    def of(self, run_id: str) -> RunHistory:
        """The history of a run, or samples of it while a long file is read; raises `RunError` for an unknown id."""
        # Of a known run that is still there: asked for 200 runs a second, the store's own check would take most time.
        if run_id not in self._open or not os.path.isfile(f"{self._root}/{run_id}/{CONFIG_FILE}"):
            self.store.open(run_id)
        with self._lock:
            reader = self._open.get(run_id)
            if reader is None:
                reader = self._open[run_id] = LiveReader(self.store.runs_dir / run_id)
                self._let_go()
            self._open.move_to_end(run_id)
        return reader.history()

    def of_all(self, run_ids: Sequence[str]) -> list[RunHistory]:
        """Histories in the order of the ids."""
        return [self.of(run_id) for run_id in run_ids]

    def close(self, run_id: str) -> None:
        """Lets go of a run, so that it is read afresh when it is asked for again."""
        with self._lock:
            self._open.pop(run_id, None)

    def _let_go(self) -> None:
        """Drops the readers that were not asked for longest; called with the lock held."""
        while len(self._open) > 1 and (
            len(self._open) > MOST_OPEN or sum(reader.nbytes for reader in self._open.values()) > MOST_BYTES
        ):
            self._open.popitem(last=False)
