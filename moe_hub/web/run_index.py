"""The list of runs as the page shows it: read again only where a file of a run changed."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import threading
import time
from collections.abc import Sequence
from typing import Any

from moe_hub import launch
from moe_hub.errors import RunError
from moe_hub.runs.queue import RunQueue
from moe_hub.runs.status import LIVE_STATES, STATUS_FILE
from moe_hub.runs.store import CONFIG_FILE, NOTES_FILE, RunStore, RunSummary, summarize

FRESH_S = 0.5  # pages that ask within this time share one look at the disk
SHOWN_METRICS = ("train/loss", "val/loss", "val/exact_match", "time/tokens_per_s")

Stamp = tuple[tuple[int, int] | None, ...]


class RunIndex:
    """`rows` gives all runs, newest first; `changes` only those that a page does not have yet."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.queue = RunQueue(store.runs_dir)
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Stamp, RunSummary]] = {}
        self._looked_at = -math.inf
        self._rows: dict[str, dict[str, Any]] = {}
        self._revisions: dict[str, int] = {}
        self._revision = 0
        self._order_revision = 0
        self._queue: dict[str, Any] = {"waiting": [], "worked": False}
        self._queue_revision = 0
        self._epoch = secrets.token_hex(4)  # a version of another process means nothing here

    def rows(self) -> list[dict[str, Any]]:
        """All runs, newest first."""
        with self._lock:
            self._look()
            return list(self._rows.values())

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
            answer: dict[str, Any] = {
                "v": f"{self._epoch}:{self._revision}",
                "rows": [row for run_id, row in self._rows.items() if self._revisions[run_id] > since],
            }
            if self._order_revision > since:
                answer["order"] = list(self._rows)
            if self._queue_revision > since:
                answer["queue"] = self._queue
            return answer

    def known(self, run_ids: Sequence[str]) -> list[str]:
        """Those of the ids that are runs in the list."""
        with self._lock:
            self._look()
            return [run_id for run_id in run_ids if run_id in self._rows]

    def forget(self) -> None:
        """The next question looks at the disk, however soon."""
        self._looked_at = -math.inf

    def _look(self) -> None:
        if time.monotonic() - self._looked_at < FRESH_S:
            return
        summaries = {run_id: self._summary(run_id) for run_id in self.store.ids()}
        rows = {run_id: _row(summary) for run_id, summary in summaries.items() if summary is not None}
        changed = [run_id for run_id, row in rows.items() if row != self._rows.get(run_id)]
        moved = list(rows) != list(self._rows)
        queue = self._look_at_queue(rows)
        if changed or moved or queue != self._queue:
            self._revision += 1
            self._revisions.update(dict.fromkeys(changed, self._revision))
        if queue != self._queue:
            self._queue, self._queue_revision = queue, self._revision
        if moved:
            self._order_revision = self._revision
            self._revisions = {run_id: self._revisions[run_id] for run_id in rows}
            self._known = {run_id: self._known[run_id] for run_id in rows}
        self._rows = rows
        self._looked_at = time.monotonic()

    def _look_at_queue(self, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
        if not any(row["state"] == "queued" for row in rows.values()):
            return {"waiting": [], "worked": False}
        return {"waiting": list(self.queue.waiting()), "worked": launch.is_worked(self.store.runs_dir)}

    def _summary(self, run_id: str) -> RunSummary | None:
        stamp = self._stamp(run_id)
        known = self._known.get(run_id)
        # A live run can end without writing a file (killed), so it is always looked at.
        if known is not None and known[0] == stamp and known[1].state not in LIVE_STATES:
            return known[1]
        with contextlib.suppress(RunError, OSError):
            summary = summarize(self.store.open(run_id))
            self._known[run_id] = (stamp, summary)
            return summary
        return None

    def _stamp(self, run_id: str) -> Stamp:
        return tuple(
            _file_stamp(self.store.runs_dir / run_id / name) for name in (CONFIG_FILE, STATUS_FILE, NOTES_FILE)
        )


def _file_stamp(path: os.PathLike[str]) -> tuple[int, int] | None:
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
        "metrics": {name: summary.metrics[name] for name in SHOWN_METRICS if name in summary.metrics},
    }
