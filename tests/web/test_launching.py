"""The job behind Start: it launches a detached trainer, reports its run, and says what became of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import FAKE_TRAINER, wait_for

from moe_hub import launch
from moe_hub.config import Config, load_config
from moe_hub.errors import ConfigError, RunError
from moe_hub.runs.status import read_status
from moe_hub.runs.store import RunStore
from moe_hub.workbench import starting
from moe_hub.workbench.assessment import shipped_values
from moe_hub.workbench.fields import to_raw
from moe_hub.workbench.presets import PresetStore

pytestmark = pytest.mark.slow


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flags of the fake trainer that stands in for the real one."""
    chosen: list[str] = []

    def launch_fake(runs_dir: Path, config: Config) -> str:
        run = RunStore(runs_dir).create(config)
        launch.start(run.path, command=[sys.executable, str(FAKE_TRAINER), str(run.path.resolve()), *chosen])
        return run.run_id

    monkeypatch.setattr(starting.launch, "launch_run", launch_fake)
    return chosen


def test_it_reports_the_run_and_returns_after_the_first_step(page: Any, flags: list[str]) -> None:
    flags += ["--steps", "100000", "--delay", "0.01"]
    reports: list[dict[str, Any]] = []
    message = starting.start_and_report(page.runs_dir, load_config(preset="geometric_lambda"), reports.append)
    assert message == ""
    run = page.store.open(reports[0]["run_id"])
    status = read_status(run.path)
    assert status is not None
    assert status.pid is not None
    trainer = psutil.Process(status.pid)
    # Not below this process: what kills a job's children does not reach it.
    assert trainer.pid not in [child.pid for child in psutil.Process().children(recursive=True)]
    assert os.getsid(trainer.pid) != os.getsid(0)
    launch.escalate_stop(run.path, patience_s=1)


def test_a_failure_before_the_first_step_is_the_message(page: Any, flags: list[str]) -> None:
    flags += ["--no-such-flag"]
    message = wait_for(
        lambda: starting.start_and_report(
            page.runs_dir, load_config(preset="geometric_lambda"), lambda _: None, timeout_s=0.5
        )
    )
    assert "no step" in message or "did not start" in message


def test_a_trainer_that_makes_no_step_is_said(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def launch_sleeper(runs_dir: Path, config: Config) -> str:
        run = RunStore(runs_dir).create(config)
        launch.start(run.path, command=["sleep", "3"])
        return run.run_id

    monkeypatch.setattr(starting.launch, "launch_run", launch_sleeper)
    config = load_config(preset="geometric_lambda")
    message = starting.start_and_report(page.runs_dir, config, lambda _: None, timeout_s=0.4)
    assert "no step" in message


def test_a_crowd_of_starting_runs_is_refused(page: Any) -> None:
    config = load_config(preset="geometric_lambda")
    for _ in range(starting.MOST_STARTING):
        page.store.create(config)
    with pytest.raises(RunError, match="starting already"):
        starting.start_and_report(page.runs_dir, config, lambda _: None)
    assert len(page.store.ids()) == starting.MOST_STARTING


def test_the_form_is_checked_again_on_the_server(page: Any) -> None:
    presets = PresetStore(page.data_dir)
    raw = to_raw(shipped_values("geometric_lambda"))
    assert starting.form_config(presets, "geometric_lambda", raw) == load_config(preset="geometric_lambda")
    with pytest.raises(ConfigError, match="1 to 64"):
        starting.form_config(presets, "geometric_lambda", {**raw, "model.num_experts": "0"})
