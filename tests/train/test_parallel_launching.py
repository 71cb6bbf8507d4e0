"""The process that starts torchrun: signals become requests, and a run never stays without an end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from moe_hub.config import load_config
from moe_hub.errors import RunError
from moe_hub.runs import control
from moe_hub.runs.status import write_status
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.train.parallel import launching


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunStore(tmp_path / "runs").create(load_config())


@pytest.fixture
def fake_torchrun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is started instead; the program text may be changed until then."""
    program = ["pass"]
    monkeypatch.setattr(launching, "torchrun", lambda *_: [sys.executable, "-c", program[0]])
    return program


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_a_request_to_save_and_stop(run: RunDirectory, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with subprocess.Popen(["sleep", "60"]) as process:
        with launching._stopping(run, process):
            os.kill(os.getpid(), number)
            assert [request.action for request in control.waiting(run.path)] == ["stop"]
            assert process.poll() is None
        process.kill()
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_ends_all_at_once(run: RunDirectory) -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait"]) as process, launching._stopping(run, process):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert process.wait(timeout=30) == -signal.SIGKILL


def test_a_run_that_never_began_has_failed_with_its_log(run: RunDirectory, fake_torchrun: list[str]) -> None:
    (run.path / "log.txt").write_text("ImportError: no module named torch\n")
    assert launching.supervise(run, 2, []) == 1
    status = run.status()
    assert status is not None
    assert (status.state, status.failure["kind"]) == ("failed", "lost_process")
    assert "while they started" in status.exit_reason
    assert "no module named torch" in status.failure["log"]


def test_while_it_starts_the_status_names_this_process(run: RunDirectory, fake_torchrun: list[str]) -> None:
    fake_torchrun[0] = f"import shutil; shutil.copy({str(run.path / 'status.json')!r}, {str(run.path / 'seen')!r})"
    launching.supervise(run, 2, [])
    assert f'"pid": {os.getpid()}' in (run.path / "seen").read_text()


def test_a_run_that_another_process_trains_is_left_alone(
    run: RunDirectory, fake_torchrun: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "BRIEFLY_S", 0.0)
    fake_torchrun[0] = "raise SystemExit('started')"
    before = run.status()
    with RunDirectory(run.path).lock(), pytest.raises(RunError, match="held by another process"):
        launching.supervise(run, 2, [])
    assert run.status() == before


@pytest.mark.parametrize(("state", "code"), [("finished", 0), ("stopped", 0), ("failed", 1)])
def test_what_rank_0_wrote_stays(run: RunDirectory, fake_torchrun: list[str], state: str, code: int) -> None:
    made = run.status()
    assert made is not None
    write_status(run.path / "control", replace(made, state=state, exit_reason="said by rank 0"))
    source, target = run.path / "control" / "status.json", run.path / "status.json"
    fake_torchrun[0] = f"import shutil; shutil.copy({str(source)!r}, {str(target)!r})"
    assert launching.supervise(run, 2, []) == code
    status = run.status()
    assert status is not None
    assert (status.state, status.exit_reason) == (state, "said by rank 0")


def test_a_stop_that_came_to_signals_is_no_failure(run: RunDirectory, fake_torchrun: list[str]) -> None:
    (run.path / "control" / ".terminated-1-1.0").touch()
    assert launching.supervise(run, 2, []) == 1
    status = run.status()
    assert status is not None
    assert status.state == "starting"  # who sent the signals writes the rest


def test_only_torchruns_whole_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not launching.under_torchrun()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not launching.under_torchrun()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launching.under_torchrun()
