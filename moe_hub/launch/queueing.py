"""The queue at work: one detached worker for each runs folder starts a queued run when no other run is alive there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import filelock

from moe_hub.config import Config
from moe_hub.errors import RunError
from moe_hub.launch.starting import detach, python, start
from moe_hub.launch.stopping import runs
from moe_hub.runs.queue import RunQueue
from moe_hub.runs.status import (
    FINAL_STATES,
    LIVE_STATES,
    Status,
    is_alive,
    is_local,
    process_identity,
    read_status,
    state_of,
    write_status,
)
from moe_hub.runs.store import BRIEFLY_S, LOG_FILE, RunDirectory, RunStore, file_lock

WORKER_LOCK_FILE = "worker.lock"
POLL_S = 1.0
_TAKE_OVER_S = 5.0  # a new worker waits so long for one that is about to end
_HEARTBEAT_S = 5.0
_ENDING_S = 30.0  # a trainer with a final status has so long to end and give its memory back


def enqueue(runs_dir: Path, config: Config, *, command: Sequence[str] | None = None) -> str:
    """Makes a run that waits its turn, sees to it that the queue is worked, and returns its id. Raises `RunError`."""
    run = RunStore(runs_dir).create(config, state="queued")
    RunQueue(runs_dir).add(run.run_id)
    start_queue(runs_dir, command=command)
    return run.run_id


def start_queue(runs_dir: Path, *, command: Sequence[str] | None = None) -> bool:
    """Starts a worker where runs wait and none works; True where it did. Raises `RunError`.

    `command` replaces the trainer; the run directory stands in its environment.
    """
    queue = RunQueue(runs_dir)
    if not queue.waiting() or is_worked(runs_dir):
        return False
    folder = queue.folder.resolve()
    worker = [python(), "-m", "moe_hub.launch", "--queue", str(folder.parent)]
    problem = detach([*worker, *(["--", *command] if command else [])], folder / LOG_FILE)
    if problem:
        raise RunError(f"runs folder {runs_dir}: the queue cannot be started: {problem}")
    return True


def is_worked(runs_dir: Path) -> bool:
    """Whether a worker is at the queue of this runs folder."""
    status = read_status(RunQueue(runs_dir).folder)
    return status is not None and status.state == "running" and is_alive(status)


def run_queue(runs_dir: Path, *, command: Sequence[str] | None = None, poll_s: float = POLL_S) -> int:
    """Starts queued runs, one after the other, until none waits; returns how many. 0 where another worker works.

    A run begins when no other run of this host is alive in the folder, paused ones included. One that fails, or
    cannot be started, does not hold up the next.
    """
    queue = RunQueue(runs_dir)
    lock = file_lock(queue.folder / WORKER_LOCK_FILE, timeout_s=_TAKE_OVER_S)
    try:
        lock.acquire()
    except filelock.Timeout:
        return 0
    except OSError as error:
        raise RunError(f"runs folder {runs_dir}: the queue cannot be used: {error.strerror or error}") from None
    try:
        return _Worker(queue, command, poll_s).work()
    finally:
        lock.release()


class _Worker:
    """The worker of one queue, which holds the worker's lock."""

    def __init__(self, queue: RunQueue, command: Sequence[str] | None, poll_s: float) -> None:
        self.queue = queue
        self.command = command
        self.poll_s = poll_s
        self.refused: set[str] = set()
        self.status = Status(state="running", **process_identity())
        self._beat()

    def work(self) -> int:
        started = 0
        while True:
            self._wait_until_free()
            run_id = self._next_or_end()
            if run_id is None:
                return started
            started += self._start(run_id)

    def _start(self, run_id: str) -> bool:
        run = RunDirectory(self.queue.runs_dir / run_id)
        try:
            start(run.path, command=self.command, only_queued=True)
        except RunError as error:
            self.refused.add(run_id)
            print(f"{run_id}: {error}", flush=True)
            _mark_failed(run, str(error))
            return False
        print(f"{run_id}: started", flush=True)
        return True

    def _next_or_end(self) -> str | None:
        """The next run. Where none waits, the end is declared while nobody can add one: who adds later starts anew."""
        with self.queue.lock():
            waiting = [run_id for run_id in self.queue.waiting() if run_id not in self.refused]
            if waiting:
                return waiting[0]
            self._write(replace(self.status, state="finished"))
            return None

    def _wait_until_free(self) -> None:
        while alive := self._alive():
            for run_id in alive:
                self._wait_for(self.queue.runs_dir / run_id)

    def _alive(self) -> list[str]:
        """Runs of this host that a process may be training at this moment."""
        found = []
        for run_id in self.queue.store.ids():
            status = read_status(self.queue.runs_dir / run_id)
            if status is not None and is_local(status) and state_of(status) in LIVE_STATES:
                found.append(run_id)
        return found

    def _wait_for(self, run_dir: Path) -> None:
        final_since = None
        pause_s = min(0.05, self.poll_s)
        while runs(run_dir):
            self._beat()
            status = read_status(run_dir)
            if status is not None and status.state in FINAL_STATES:
                final_since = final_since or time.monotonic()
                if time.monotonic() - final_since > _ENDING_S:
                    return
            time.sleep(pause_s)
            pause_s = min(self.poll_s, 1.5 * pause_s)  # a short run is followed at once, a long one costs nothing
        print(f"{run_dir.name}: {RunDirectory(run_dir).state()}", flush=True)

    def _beat(self) -> None:
        if abs(time.time() - self.status.heartbeat) >= _HEARTBEAT_S:
            self.status = replace(self.status, heartbeat=time.time())
            self._write(self.status)

    def _write(self, status: Status) -> None:
        try:
            write_status(self.queue.folder, status)
        except OSError as error:
            print(f"the queue's status cannot be written: {error}", flush=True)


def _mark_failed(run: RunDirectory, problem: str) -> None:
    """A queued run that cannot be started is `failed`, so that it does not stand in the way for ever."""
    try:
        with run.lock(BRIEFLY_S):
            status = run.status()
            if status is not None and status.state == "queued":
                failure = {"kind": "run", "cause": problem, "advice": "Mend what it names, then start again", "log": ""}
                write_status(run.path, replace(status, state="failed", exit_reason=problem, failure=failure))
    except (RunError, OSError) as error:
        print(f"{run.run_id}: {error}", flush=True)
