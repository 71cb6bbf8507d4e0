"""One run of the real trainer that is killed again and again, and what must hold after each kill and at its end."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from safetensors.numpy import load_file

from benchmarks.blows import Blow
from benchmarks.dashboard import Dashboard, until
from moe_hub.runs.reader import MetricReader
from moe_hub.runs.status import FINAL_STATES, LIVE_STATES, current_state, local_process, state_of
from moe_hub.runs.store import RunDirectory
from moe_hub.runs.writer import METRICS_FILE
from moe_hub.web import ids

PATIENCE_S = 1800.0  # for what takes seconds on a machine that does nothing else
WATCH_S = 0.002
# Clocks, the machine, and what a second attempt adds: these differ between a run that was killed and one that was not.
# The word that a checkpoint was saved is lost where the kill comes between the two; the checkpoint is not.
DIFFERS = ("time/", "system/", "event/resume", "event/checkpoint")


@dataclass
class Counts:
    """What was seen, over all runs."""

    kills: dict[str, int] = field(default_factory=dict)
    interrupted_s: list[float] = field(default_factory=list)  # from the kill of a trainer to the state in its files
    page_s: list[float] = field(default_factory=list)  # to the state on the page, or from a new server's first answer
    unfinished: int = 0
    leftovers: int = 0
    rows: int = 0
    lost: int = 0
    runs: int = 0
    unequal: int = 0

    @property
    def all_kills(self) -> int:
        return sum(self.kills.values())


class Site:
    """The real server on one runs folder; it can be killed and comes back."""

    def __init__(self, runs_dir: Path, data_dir: Path) -> None:
        self.folders = runs_dir, data_dir
        self.server: Dashboard | None = None
        self.start()

    def start(self) -> None:
        """Starts the server and waits for its first answer."""
        self.server = Dashboard(*self.folders).__enter__()

    def kill(self) -> set[psutil.Process]:
        """SIGKILL to the server and to all that it has started, as when a terminal is closed; gives those that it hit.

        A trainer is among them for the moment in which its starter has not ended yet.
        """
        assert self.server is not None
        root = psutil.Process(self.server.process.pid)
        hit = {*root.children(recursive=True), root}
        for process in hit:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.server.close()
        return hit

    def close(self) -> None:
        """Ends the server."""
        if self.server is not None:
            self.server.close()

    def state(self, run_id: str) -> str:
        """The state of a run as the page shows it."""
        assert self.server is not None
        return str(json.loads(self.server.get("api/live", focus=run_id))["status"]["line"]["state"])

    def resume(self, run_id: str) -> str:
        """Presses Resume on the page, and gives what it says."""
        assert self.server is not None
        buttons = [ids.PAUSE, ids.RESUME, ids.STOP, ids.SAVE]
        body = {
            "output": f"{ids.CONTROL_MESSAGE}.children",
            "outputs": {"id": ids.CONTROL_MESSAGE, "property": "children"},
            "inputs": [{"id": each, "property": "n_clicks", "value": int(each == ids.RESUME)} for each in buttons],
            "state": [{"id": ids.SELECTION, "property": "data", "value": {"focus": run_id, "selected": []}}],
            "changedPropIds": [f"{ids.RESUME}.n_clicks"],
        }
        request = urllib.request.Request(
            f"{self.server.address}_dash-update-component",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return str(json.loads(answer.read())["response"][ids.CONTROL_MESSAGE]["children"])


class KilledRun:
    """Watches one run through its kills. Every check raises `AssertionError` with what was found."""

    def __init__(self, run: RunDirectory, site: Site, counts: Counts) -> None:
        self.run, self.site, self.counts = run, site, counts
        self.metrics = run.path / METRICS_FILE
        self.reader = MetricReader(run.path)  # one page that looks on all the while
        self.known = b""
        self.bad_lines = 0
        self.start_s = 6.0
        self.refused = ""

    def strike(self, blow: Blow) -> bool:
        """Sees to it that a trainer is at work, waits for the moment of the blow and kills; False where it is done."""
        resuming = self._resume()
        if blow.moment == "starting" and (resuming is not None or self._is_starting()):
            time.sleep(blow.share * self.start_s)
        else:
            if resuming is not None:
                resuming.join()
                assert not self.refused, self.refused
            if not self._await_moment(blow):
                return False
        before, alive = self._content(), self._trainer()
        if self._is_done() or (alive is None and blow.victim == "trainer"):
            return not self._is_done() and self.strike(blow)
        self._kill(blow, alive)
        if resuming is not None:
            resuming.join()
        self._check_files(before, blow)
        return True

    def _kill(self, blow: Blow, alive: psutil.Process | None) -> None:
        if blow.victim != "server" and alive is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                alive.kill()
        at = time.monotonic()
        hit = self.site.kill() if blow.victim != "trainer" else set()
        if blow.victim == "server" and alive not in hit:
            self._check_adopted(alive)
        elif alive is None:  # the server was killed while its starter had no trainer yet
            self.site.start()
        else:
            self._check_interrupted(at, restart=blow.victim != "trainer")
        name = f"{blow.victim}, {blow.moment}"
        self.counts.kills[name] = self.counts.kills.get(name, 0) + 1

    def _resume(self) -> threading.Thread | None:
        """Presses Resume where the run has lost its trainer; None where one is at work or it is done."""
        begun = time.monotonic()
        state = until(self._settled_state, PATIENCE_S)
        if state != "interrupted":
            return None
        if time.monotonic() - begun > 1:  # a start that came to nothing: known for what it is after some seconds
            self.counts.interrupted_s.append(time.monotonic() - begun)
        self.refused = ""
        thread = threading.Thread(target=self._press, daemon=True)
        thread.start()
        return thread

    def _press(self) -> None:
        try:
            said = self.site.resume(self.run.run_id)
        except (OSError, http.client.HTTPException, ValueError):  # the server was killed while it answered
            return
        if "last checkpoint" not in said:
            self.refused = said

    def finish(self, reference: RunDirectory) -> None:
        """Waits for the end and compares weights, optimizer, checkpoints and rows with the uninterrupted run."""
        resuming = self._resume()
        if resuming is not None:
            resuming.join()
        until(self._is_done, PATIENCE_S)
        process = self._trainer()
        if process is not None:
            process.wait(PATIENCE_S)
        assert current_state(self.run.path) == "finished", self.run.log_tail()
        self._check_files(b"", None)
        self.counts.runs += 1
        different = self._differences(reference)
        if different:
            print(f"not those of the uninterrupted run: {different}", flush=True)
        self.counts.unequal += bool(different)
        self._compare_rows(reference)

    def _await_moment(self, blow: Blow) -> bool:
        first = self._size()
        if self._is_starting():
            if not self._wait(lambda: self._new_rows(first) > 0):
                return False
            process = self._trainer()
            if process is not None:
                self.start_s = max(1.0, time.time() - process.create_time())
        if not self._wait(lambda: self._new_rows(first) >= blow.rows):
            return False
        if blow.moment == "saving" and not self._wait(self._saving):
            return False
        time.sleep(blow.delay_s)
        return not self._is_done()

    def _is_starting(self) -> bool:
        status = self.run.status()
        return status is not None and status.state == "starting"

    def _size(self) -> int:
        return self.metrics.stat().st_size if self.metrics.exists() else 0

    def _wait(self, holds: Any) -> bool:
        """Until it holds; False where the run ends before."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if self._is_done():
                return False
            assert time.monotonic() < deadline, f"nothing happened in {PATIENCE_S:.0f} s: {self.run.log_tail()}"
            time.sleep(WATCH_S)
        return True

    def _is_done(self) -> bool:
        status = self.run.status()
        return status is not None and status.state in FINAL_STATES - {"interrupted"}

    def _new_rows(self, since: int) -> int:
        if self._size() <= since:
            return 0
        with self.metrics.open("rb") as file:
            file.seek(since)
            return file.read().count(b"\n")

    def _saving(self) -> bool:
        return any((self.run.path / "checkpoints").glob(".step_*.tmp"))

    def _trainer(self) -> psutil.Process | None:
        status = self.run.status()
        return local_process(status) if status is not None else None

    def _content(self) -> bytes:
        """Whole rows of the file at this moment: what was there must be there for ever."""
        content = self.metrics.read_bytes() if self.metrics.exists() else b""
        return content[: content.rfind(b"\n") + 1]

    def _check_files(self, before: bytes, blow: Blow | None) -> None:
        """No byte of a whole row is lost, at most one row is unfinished, and the row of the status's step is there."""
        now = self.metrics.read_bytes() if self.metrics.exists() else b""
        for earlier in (self.known, before):
            assert now.startswith(earlier), f"rows were lost after {blow}: {len(earlier)} bytes were there"
        self.known = self._content()
        bad = sum(not _is_row(line) for line in now.split(b"\n") if line)
        assert bad - self.bad_lines <= 1, f"{bad - self.bad_lines} unfinished rows after {blow}"
        self.counts.unfinished += bad - self.bad_lines
        self.bad_lines = bad
        self.reader.poll()
        steps = set(self.reader.history().snapshot.steps.tolist())
        saved = [int(folder.name.removeprefix("step_")) for folder in self.run.checkpoints()]
        status = self.run.status()
        assert status is not None, f"no status after {blow}"
        said = max([status.step, *saved], default=0)
        missing = [step for step in range(1, said + 1) if step not in steps]
        self.counts.lost += len(missing)
        assert not missing, f"the status or a checkpoint knows of steps whose rows are not there: {missing}, {blow}"
        self.counts.leftovers += self._saving()

    def _check_adopted(self, before: psutil.Process | None) -> None:
        """After the server alone was killed, the trainer goes on and a new server shows it as it is."""
        self.site.start()
        now = self._trainer()
        if before is not None and not self._is_done():
            told = f"{before} is there: {before.is_running()}, the status names {now}: {self.run.status()}"
            assert now == before, f"the trainer ended with its server: {told}; {self.run.log_tail()}"
            shown, real = self.site.state(self.run.run_id), current_state(self.run.path)
            assert shown in LIVE_STATES or real in FINAL_STATES, f"a new server shows {shown}, it is {real}"

    def _check_interrupted(self, at: float, *, restart: bool) -> None:
        until(lambda: current_state(self.run.path) in FINAL_STATES, PATIENCE_S, WATCH_S)
        self.counts.interrupted_s.append(time.monotonic() - at)
        if restart:
            self.site.start()
            at = time.monotonic()
        until(lambda: self.site.state(self.run.run_id) in FINAL_STATES, PATIENCE_S, WATCH_S)
        self.counts.page_s.append(time.monotonic() - at)
        if restart:  # a server that starts writes it down
            until(self._has_last_word, PATIENCE_S, WATCH_S)

    def _has_last_word(self) -> bool:
        status = self.run.status()
        return status is not None and status.state in FINAL_STATES

    def _settled_state(self) -> str:
        """The state once it is known whether a process came of the last start."""
        status = self.run.status()
        state = state_of(status)
        return "" if state == "starting" and status is not None and status.pid is None else state

    def _differences(self, reference: RunDirectory) -> list[str]:
        """Checkpoints that only one of the runs kept, or whose weights, moments or random states have other bits."""
        ours, theirs = self.run.checkpoints(), reference.checkpoints()
        names = {folder.name for folder in ours} ^ {folder.name for folder in theirs}
        if names:
            return [f"{name} is in one of both" for name in sorted(names)]
        leftover = [path.name for path in (self.run.path / "checkpoints").iterdir() if path.name.startswith(".")]
        assert not leftover, f"left behind: {leftover}"
        return [
            f"{one.name}/{name}"
            for one, other in zip(ours, theirs, strict=True)
            for name in ("model.safetensors", "optimizer.safetensors")
            if not same_bits(load_file(one / name), load_file(other / name))
        ]

    def _compare_rows(self, reference: RunDirectory) -> None:
        """Each step once, with the values of the uninterrupted run; one reader from the start, another from the end."""
        self.reader.poll()
        wanted = read_all(reference)
        for history in (self.reader.history(), read_all(self.run)):
            assert history.snapshot.steps.tolist() == wanted.snapshot.steps.tolist()
            names = [name for name in sorted(wanted.names()) if not name.startswith(DIFFERS)]
            assert names == [name for name in sorted(history.names()) if not name.startswith(DIFFERS)]
            for name in names:
                (steps, values), (at, expected) = history.arrays(name), wanted.arrays(name)
                assert steps.tolist() == at.tolist(), name
                assert np.asarray(values).tobytes() == np.asarray(expected).tobytes(), name
        self.counts.rows += len(wanted.snapshot.steps)


def read_all(run: RunDirectory) -> Any:
    """The history of a run, read anew."""
    reader = MetricReader(run.path, cache=False)
    reader.poll()
    return reader.history()


def same_bits(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two sets of tensors are equal bit for bit."""
    return one.keys() == other.keys() and all(one[name].tobytes() == other[name].tobytes() for name in one)


def _is_row(line: bytes) -> bool:
    try:
        return "step" in json.loads(line)
    except ValueError:
        return False
