"""Runs that wait their turn. A waiting run is a run directory in state `queued`; one file holds their order.

The config of a run is frozen when it is queued, for it stands in its directory. The queue starts nothing: a worker of
the launcher does, and keeps its own status, log and lock in the same folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import filelock
import orjson

from moe_hub.errors import RunError
from moe_hub.runs.files import read_regular, replace_file
from moe_hub.runs.status import read_status, write_status
from moe_hub.runs.store import RunDirectory, RunStore, file_lock

QUEUE_FOLDER = ".queue"
ORDER_FILE = "order.json"
LOCK_FILE = "order.lock"
LEFT_QUEUE = "taken out of the queue before it began"
_PATIENCE_S = 10.0


class RunQueue:
    """The order of the queued runs of one runs folder; any number of processes may use it at once."""

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = Path(runs_dir)
        self.store = RunStore(self.runs_dir)
        self.folder = self.runs_dir / QUEUE_FOLDER

    def waiting(self) -> tuple[str, ...]:
        """Ids of the queued runs, the next one first."""
        return tuple(run_id for run_id in self._order() if self._is_queued(run_id))

    def add(self, run_id: str) -> None:
        """Puts a run in state `queued` at the end; one that stands there already keeps its place. Raises `RunError`."""
        run = self.store.open(run_id)
        if not self._is_queued(run_id):
            raise RunError(f"run {run_id} is {run.state()}; only a queued run can wait its turn")
        with self.lock():
            waiting = self.waiting()
            if run_id not in waiting:
                self._write((*waiting, run_id))

    def move(self, run_id: str, place: int) -> None:
        """Gives a waiting run another place, 0 for the next; raises `RunError` where it does not wait."""
        with self.lock():
            others = [each for each in self.waiting() if each != run_id]
            if len(others) == len(self.waiting()):
                raise RunError(f"run {run_id} does not wait in the queue; it may have begun")
            others.insert(max(0, place), run_id)
            self._write(others)

    def remove(self, run_id: str) -> None:
        """Takes a waiting run out: it is then `stopped`, with its directory. Raises `RunError` where it has begun."""
        run = self.store.open(run_id)
        if not self._is_queued(run_id):
            raise _begun(run)
        with self.lock(), run.lock(_PATIENCE_S):
            status = run.status()
            if status is None or status.state != "queued":
                raise _begun(run)
            try:
                write_status(run.path, replace(status, state="stopped", exit_reason=LEFT_QUEUE))
            except OSError as error:
                raise RunError(f"run {run_id} cannot be taken out: {error.strerror or error}") from None
            self._write([each for each in self.waiting() if each != run_id])

    def restore(self) -> tuple[str, ...]:
        """Adds queued runs that the order has lost, oldest last made last; returns the waiting ids."""
        queued = [run_id for run_id in reversed(self.store.ids()) if self._is_queued(run_id)]
        lost = [run_id for run_id in queued if run_id not in self.waiting()]
        if lost:
            with self.lock():
                waiting = self.waiting()
                self._write((*waiting, *(run_id for run_id in lost if run_id not in waiting)))
        return self.waiting()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the order for one process; raises `RunError` after some seconds in vain."""
        lock = file_lock(self.folder / LOCK_FILE, timeout_s=_PATIENCE_S)
        try:
            lock.acquire()
        except (filelock.Timeout, OSError) as error:
            raise RunError(f"runs folder {self.runs_dir}: the queue cannot be locked: {error}") from None
        try:
            yield
        finally:
            lock.release()

    def _is_queued(self, run_id: str) -> bool:
        status = read_status(self.runs_dir / run_id)
        return status is not None and status.state == "queued"

    def _order(self) -> list[str]:
        """The ids in the file, without those that are none, and each once."""
        try:
            values = orjson.loads(read_regular(self.folder / ORDER_FILE))
        except (OSError, ValueError):
            return []
        found = values if isinstance(values, list) else []
        known = set(self.store.ids())
        return list(dict.fromkeys(each for each in found if isinstance(each, str) and each in known))

    def _write(self, order: Sequence[str]) -> None:
        try:
            replace_file(self.folder / ORDER_FILE, orjson.dumps(list(order)))
        except OSError as error:
            raise RunError(
                f"runs folder {self.runs_dir}: the queue cannot be written: {error.strerror or error}"
            ) from None


def _begun(run: RunDirectory) -> RunError:
    return RunError(f"run {run.run_id} is {run.state()} and waits no longer; stop it if it runs")
