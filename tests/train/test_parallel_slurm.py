"""The Slurm recipe: it begins a run, stops and requeues itself at a signal, and goes on with the same run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from moe_hub.runs.store import RunDirectory, RunStore

pytestmark = [pytest.mark.training, pytest.mark.timeout(900)]

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "slurm" / "train.sbatch"
PATIENCE_S = 300.0
# Stand for Slurm's: srun runs the command here, in a session of its own; scontrol writes down what it is told.
SRUN = '#!/bin/bash\nshift\nexec setsid --wait "$@"\n'
SCONTROL = """#!/bin/bash
echo "$@" >> "$SCONTROL_LOG"
if [ "$1" = show ]; then echo 127.0.0.1; fi
"""
SMALL = (
    "model.architecture=dense", "model.d_model=16", "model.num_heads=2", "model.num_layers=1", "model.max_seq_len=64",
    "train.max_steps=200000", "train.batch_size=2", "train.eval_every=200000", "train.checkpoint_every=200000",
    "train.precision=fp32", "train.threads=1", "data.num_train_samples=50", "data.num_eval_samples=5",
    "data.max_term_size=9",
)  # fmt: skip


class Job:
    """The batch script as Slurm would run it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.log = folder, folder / "scontrol.log"
        tools = folder / "tools"
        tools.mkdir()
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        self.environment = {
            **os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "SCONTROL_LOG": str(self.log),
            "PYTHON": sys.executable,
            "SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "node[1-1]", "SLURM_NNODES": "1", "PROCESSES": "2",
            "PORT": str(port), "RUNS": str(folder / "runs"), "MOE_HUB_DATA": str(folder / "data"),
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip

    def begin(self) -> subprocess.Popen[bytes]:
        words = [word for override in SMALL for word in ("--set", override)]
        with (self.folder / "job.log").open("ab") as log:
            return subprocess.Popen(["bash", str(SCRIPT), *words], env=self.environment, stdout=log, stderr=log)

    def run(self) -> RunDirectory | None:
        found = RunStore(self.folder / "runs").ids()
        return RunStore(self.folder / "runs").open(found[0]) if found else None

    def trains_beyond(self, step: int) -> bool:
        run = self.run()
        status = run.status() if run is not None else None
        return status is not None and status.state == "running" and status.step > step

    def requeued(self) -> int:
        return self.log.read_text().count("requeue 4711")


def wait(condition: Callable[[], bool], job: Job, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        ended = process.poll() is not None or time.monotonic() > deadline
        assert not ended, (job.folder / "job.log").read_text()[-4000:]
        time.sleep(0.1)


def test_it_saves_requeues_and_goes_on(tmp_path: Path) -> None:
    job = Job(tmp_path, 29600 + os.getpid() % 40)
    reached = 0
    for attempt, number in enumerate((signal.SIGUSR1, signal.SIGTERM), 1):  # the time is up; the job is preempted
        process = job.begin()
        try:
            wait(partial(job.trains_beyond, reached), job, process)
            process.send_signal(number)
            assert process.wait(timeout=PATIENCE_S) == 0, (tmp_path / "job.log").read_text()[-4000:]
        finally:
            process.kill()
        run = job.run()
        status = run.status() if run is not None else None
        assert run is not None
        assert status is not None
        assert (status.state, status.world_size, status.attempt) == ("stopped", 2, attempt - 1)
        assert status.step > reached
        assert run.checkpoints()[-1].name == f"step_{status.step:08d}"
        assert job.requeued() == attempt
        assert len(RunStore(tmp_path / "runs").ids()) == 1
        reached = status.step
