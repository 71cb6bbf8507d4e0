"""The list of runs as the page shows it: read again only where something of a run changed.

Files of a run are replaced, never written over, so the time of its folder says whether one changed, and the time of the
folder of runs whether a run came or went. A look therefore costs one `stat` for each run; with very many runs, those
that have ended take turns.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moe_hub import launch
from moe_hub.errors import RunError
from moe_hub.runs.queue import RunQueue
from moe_hub.runs.status import LIVE_STATES, STATUS_FILE
from moe_hub.runs.store import CONFIG_FILE, NOTES_FILE, RunStore, RunSummary, summarize

FRESH_S = 0.5  # pages that ask within this time share one look at the disk
NEWEST = 32  # runs that every look sees
IN_TURN = 32  # others in one look: of 200 runs each is seen within six looks, of 1,000 within half a minute
FILE_LOOKS = 8  # runs in one look whose files are compared too: somebody may have written over one
SETTLED_NS = 2_000_000_000  # a folder that changed this recently may change again within its clock's tick
SHOWN_METRICS = ("train/loss", "val/loss", "val/exact_match", "time/tokens_per_s")

Stamp = tuple[tuple[int, int] | None, ...]


@dataclass
class _Entry:
    """What is known of a folder: its time (0: look again), the times and sizes of its files, its row if it is a run."""

    folder_ns: int = 0
    files: Stamp = ()
    row: dict[str, Any] | None = None
    revision: int = 0

    @property
    def live(self) -> bool:
        """A live run can end without writing a file (killed); what could not be read may be readable now."""
        return self.row is None or self.row["state"] in LIVE_STATES


class RunIndex:
    """`rows` gives all runs, newest first; `changes` only those that a page does not have yet."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.queue = RunQueue(store.runs_dir)
        self._root = os.fspath(store.runs_dir)
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}  # newest first
        self._ids: list[str] = []
        self._restless: set[str] = set()  # to be looked at each time
        self._queued: set[str] = set()
        self._folder_ns = 0
        self._looked_at = -math.inf
        self._look_at_all = True
        self._turn = 0
        self._revision = 0
        self._order_revision = 0
        self._queue: dict[str, Any] = {"waiting": [], "worked": False}
        self._queue_revision = 0
        self._epoch = secrets.token_hex(4)  # a version of another process means nothing here

    def rows(self) -> list[dict[str, Any]]:
        """All runs, newest first."""
        with self._lock:
            self._look()
            return [entry.row for entry in self._entries.values() if entry.row is not None]

    def changes(self, version: str) -> dict[str, Any] | None:
        """What is new since a version: {"v", "rows" that changed, "order" of all ids, "queue"}; None where nothing is.

        The order is there where a run came or went; the queue, ids in order and whether it is worked, where it changed.
        """
        with self._lock:
            self._look()
            epoch, _, number = version.partition(":")
            since = int(number) if epoch == self._epoch and number.isdigit() else -1
            if since >= self._revision:
                return None
            runs = {run_id: entry for run_id, entry in self._entries.items() if entry.row is not None}
            answer: dict[str, Any] = {
                "v": f"{self._epoch}:{self._revision}",
                "rows": [entry.row for entry in runs.values() if entry.revision > since],
            }
            if self._order_revision > since:
                answer["order"] = list(runs)
            if self._queue_revision > since:
                answer["queue"] = self._queue
            return answer

    def known(self, run_ids: Sequence[str]) -> list[str]:
        """Those of the ids that are runs in the list."""
        with self._lock:
            self._look()
            found = (run_id for run_id in run_ids if run_id in self._entries)
            return [run_id for run_id in found if self._entries[run_id].row is not None]

    def forget(self) -> None:
        """The next question looks at all of the disk, however soon."""
        self._looked_at = -math.inf
        self._look_at_all = True

    def _look(self) -> None:
        if time.monotonic() - self._looked_at < FRESH_S:
            return
        moved = self._list()
        changed = []
        due, compared = self._due()
        for run_id in due:
            entry = self._entries[run_id]
            before = entry.row
            self._refresh(run_id, entry, run_id in compared)
            moved |= (before is None) != (entry.row is None)
            if entry.row != before:
                changed.append(entry)
        queue = self._look_at_queue()
        if changed or moved or queue != self._queue:
            self._revision += 1
        for entry in changed:
            entry.revision = self._revision
        if queue != self._queue:
            self._queue, self._queue_revision = queue, self._revision
        if moved:
            self._order_revision = self._revision
        self._looked_at, self._look_at_all = time.monotonic(), False

    def _list(self) -> bool:
        """Reads the names again where a folder may have come or gone; whether a run went. One that came has no row."""
        changed_ns = _changed_ns(self._root)
        if changed_ns == self._folder_ns and not self._look_at_all:
            return False
        self._folder_ns = changed_ns if time.time_ns() - changed_ns > SETTLED_NS else 0
        known = self._entries
        self._entries = {run_id: known.get(run_id) or _Entry() for run_id in self.store.ids()}
        self._ids = list(self._entries)
        self._restless = {run_id for run_id, entry in self._entries.items() if entry.live or not entry.folder_ns}
        self._queued &= self._entries.keys()
        return any(entry.row is not None for run_id, entry in known.items() if run_id not in self._entries)

    def _due(self) -> tuple[set[str], set[str]]:
        """The runs to look at now, and those of them whose files are compared too."""
        if self._look_at_all:
            return set(self._ids), set(self._ids)
        self._turn += 1
        compared = set(_window(self._ids, self._turn * FILE_LOOKS, FILE_LOOKS))
        others = _window(self._ids[NEWEST:], self._turn * IN_TURN, IN_TURN)
        return self._restless.union(self._ids[:NEWEST], others, compared), compared

    def _refresh(self, run_id: str, entry: _Entry, compared: bool) -> None:
        folder = f"{self._root}/{run_id}"
        changed_ns = _changed_ns(folder)
        if changed_ns == entry.folder_ns and not compared and not entry.live:
            return
        files = tuple(_file_stamp(f"{folder}/{name}") for name in (CONFIG_FILE, STATUS_FILE, NOTES_FILE))
        if files != entry.files or entry.live:
            entry.files = files
            entry.row = None
            with contextlib.suppress(RunError, OSError):
                entry.row = _row(summarize(self.store.open(run_id)))
        entry.folder_ns = changed_ns if time.time_ns() - changed_ns > SETTLED_NS else 0
        _put(self._restless, run_id, entry.live or not entry.folder_ns)
        _put(self._queued, run_id, entry.row is not None and entry.row["state"] == "queued")

    def _look_at_queue(self) -> dict[str, Any]:
        if not self._queued:
            return {"waiting": [], "worked": False}
        return {"waiting": list(self.queue.waiting()), "worked": launch.is_worked(self.store.runs_dir)}


def _put(members: set[str], run_id: str, belongs: bool) -> None:
    if belongs:
        members.add(run_id)
    else:
        members.discard(run_id)


def _window(ids: Sequence[str], start: int, size: int) -> list[str]:
    """`size` of the ids from a place on, going round; each at most once."""
    if size >= len(ids):
        return list(ids)
    start %= len(ids)
    return [*ids[start : start + size], *ids[: max(0, start + size - len(ids))]]


def _changed_ns(folder: str) -> int:
    """When something in a folder last came, went or was replaced (ns); 0 where there is no such folder."""
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0


def _file_stamp(path: str) -> tuple[int, int] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_mtime_ns, info.st_size


def _row(summary: RunSummary) -> dict[str, Any]:
    return {
        "id": summary.run_id,
        "name": summary.name,
        "label": summary.label,
        "tags": list(summary.tags),
        "state": summary.state,
        "step": summary.step,
        "max_steps": summary.max_steps,
        "created": summary.created,
        "architecture": summary.architecture,
        "archived": summary.archived,
        "metrics": {name: summary.metrics[name] for name in SHOWN_METRICS if name in summary.metrics},
    }
