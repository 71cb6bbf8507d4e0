"""Two processes under the launcher: pause, save, stop, resume; one that is killed; all that are ended by force."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from moe_hub.config import Config
from moe_hub.launch.starting import RUN_DIR_VARIABLE, launch_run, start
from moe_hub.launch.stopping import escalate_stop
from moe_hub.runs import control
from moe_hub.runs.status import Status
from moe_hub.runs.store import RunDirectory, RunStore

pytestmark = [pytest.mark.training, pytest.mark.timeout(900)]

PATIENCE_S = 300.0


def wait(condition: Callable[[], bool], run: RunDirectory) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{run.status()}\n{run.log_tail()}"
        time.sleep(0.05)


def status(run: RunDirectory) -> Status:
    found = run.status()
    assert found is not None
    return found


def processes(run: RunDirectory) -> dict[str, psutil.Process]:
    """The living processes of a run by rank; those without a rank start and watch the others."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            names = process.environ()
            if names.get(RUN_DIR_VARIABLE) == str(run.path.resolve()) and process.status() != psutil.STATUS_ZOMBIE:
                found[names.get("RANK", f"pid {process.pid}")] = process
    return found


@pytest.fixture
def run(small_config: Callable[..., Config], tmp_path: Path) -> Iterator[RunDirectory]:
    """A long run of two processes that trains."""
    config = small_config(
        "ghost", "train.parallel.processes=2", "train.max_steps=100000", "train.log_every=1", "train.eval_every=100000",
        "train.checkpoint_every=100000", "train.threads=1",
    )  # fmt: skip
    made = RunStore(tmp_path / "runs").open(launch_run(tmp_path / "runs", config))
    try:
        trains_on(made, 2)
        yield made
    finally:
        for process in processes(made).values():
            with contextlib.suppress(psutil.Error):
                process.kill()


def trains_on(run: RunDirectory, step: int) -> None:
    wait(lambda: run.state() == "running" and status(run).step >= step, run)


def ends(run: RunDirectory, state: str) -> Status:
    wait(lambda: run.state() == state and not processes(run), run)
    return status(run)


def test_pause_save_stop_resume_and_lost_processes(run: RunDirectory) -> None:
    assert status(run).world_size == 2
    assert {"0", "1"} <= processes(run).keys()

    control.request(run.path, "pause")
    wait(lambda: run.state() == "paused", run)
    held = status(run).step
    control.request(run.path, "set", ghost_threshold=0.5)
    control.request(run.path, "save")
    wait(lambda: len(run.checkpoints()) == 1, run)
    assert (run.state(), status(run).step) == ("paused", held)
    control.request(run.path, "resume")
    trains_on(run, held + 1)

    control.request(run.path, "stop")
    stopped = ends(run, "stopped")
    assert stopped.exit_reason == "stopped on request"
    assert run.checkpoints()[-1].name == f"step_{stopped.step:08d}"
    assert "ghost threshold set to 0.5" in run.log_tail(1 << 20)

    start(run.path, resume=True)
    trains_on(run, stopped.step + 2)
    processes(run)["1"].kill()
    lost = ends(run, "failed")
    assert lost.failure["kind"] == "lost_process"
    assert "SIGKILL" in run.log_tail(1 << 20)  # torchrun's words on the process that was lost

    start(run.path, resume=True)
    trains_on(run, stopped.step + 2)
    processes(run)["0"].kill()
    assert "rank 0" in ends(run, "failed").exit_reason


def test_a_stop_by_force_ends_every_process(run: RunDirectory) -> None:
    processes(run)["1"].send_signal(signal.SIGSTOP)  # it takes part in nothing any more, so rank 0 waits for ever
    assert escalate_stop(run.path, patience_s=1.0) == "killed"
    assert "signal" in ends(run, "interrupted").exit_reason
