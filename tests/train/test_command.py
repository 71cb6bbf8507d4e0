"""`python -m moe_hub.train` as a person uses it: in its own process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from moe_hub.config import load_config
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.train.__main__ import main

SMALL = [
    "--set", "model.d_model=16", "--set", "model.num_heads=2", "--set", "train.batch_size=2",
    "--set", "data.num_train_samples=60", "--set", "data.num_eval_samples=8", "--set", "train.device=cpu",
]  # fmt: skip


def command(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "moe_hub.train", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MOE_HUB_DATA": str(folder / "data")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def only_run(folder: Path) -> RunDirectory:
    store = RunStore(folder / "runs")
    return store.open(store.list()[0].run_id)


def wait_for_step(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if (folder / "runs").is_dir() and RunStore(folder / "runs").list():
            status = only_run(folder).status()
            if status is not None and status.state == "running" and status.step >= step:
                return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    pytest.fail("the run did not get going")


@pytest.mark.training
def test_the_preset_trains_and_ends_with_its_metrics(tmp_path: Path) -> None:
    process = command(tmp_path, "--preset", "geometric_lambda", *SMALL, "--set", "train.max_steps=6")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    run = only_run(tmp_path)
    lines = out.splitlines()
    assert lines[0] == "finished at step 6 of 6"
    assert lines[-1] == f"run: runs/{run.run_id}"
    assert any(line.split()[0] == "val/exact_match" for line in lines[1:-1])
    assert run.config().train.max_steps == 6
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    theta = next(row["rotation/theta_rad"] for row in rows if "rotation/theta_rad" in row)
    assert np.shape(theta) == (3, 4, 4)
    assert "6/6" in run.log_tail()


@pytest.mark.training
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops_and_the_run_can_be_resumed(tmp_path: Path, number: int) -> None:
    process = command(tmp_path, "--preset", "basic_comparison", *SMALL, "--set", "train.max_steps=100000")
    wait_for_step(tmp_path, 3, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith("stopped at step ")
    run = only_run(tmp_path)
    status = run.status()
    assert status is not None
    assert status.state == "stopped"
    assert run.checkpoints()[-1].name == f"step_{status.step:08d}"
    (run.path / "config.yaml").write_text(
        (run.path / "config.yaml").read_text().replace("max_steps: 100000", f"max_steps: {status.step + 2}")
    )
    again = command(tmp_path, "--resume", "latest")
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert out.startswith(f"finished at step {status.step + 2} of {status.step + 2}")


@pytest.mark.training
def test_a_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    process = command(tmp_path, "--preset", "basic_comparison", *SMALL, "--set", "train.max_steps=100000")
    wait_for_step(tmp_path, 1, process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    status = only_run(tmp_path).status()
    assert status is not None
    assert status.state == "stopped"


def test_print_config_is_a_config_with_the_source_of_each_value(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["--preset", "geometric_lambda", "--set", "train.learning_rate=1e-3", "--print-config"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "learning_rate: 0.001  # --set" in text
    assert "architecture: geometric  # preset geometric_lambda" in text
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert load_config(path=file) == load_config("geometric_lambda", overrides=["train.learning_rate=0.001"])
    assert yaml.safe_load(text)["schema_version"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "geometric_lamda"], "did you mean geometric_lambda"),
        (["--set", "model.num_expert=4"], "did you mean model.num_experts"),
        (["--set", "train.max_steps=0"], "train.max_steps = 0"),
        (["--set", "train.max_steps"], "must look like train.max_steps=50"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--resume", "nothing"], "'nothing' is not in"),
        (["--resume", "../../etc"], "is no run id"),
        (["--resume", "latest", "--preset", "geometric_lambda"], "brings its own config"),
        (["--resume", "latest", "--set", "seed=1"], "--fork"),
        ([], "nothing to train"),
    ],
)  # fmt: skip
def test_bad_usage_exits_2_and_says_what_to_do(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*arguments, "--runs-dir", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "runs").exists()


def test_dry_run_counts_and_looks_but_makes_no_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOE_HUB_DATA", str(tmp_path / "data"))
    arguments = ["--preset", "basic_comparison", *SMALL, "--dry-run", "--runs-dir", str(tmp_path / "runs")]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    counts = {line.split()[0]: line.split()[1].replace(",", "") for line in out.splitlines() if len(line.split()) > 1}
    parts = sum(int(counts[name]) for name in ("embedding", "experts", "router", "coupling"))
    assert int(counts["parameters"]) == parts
    assert not (tmp_path / "runs").exists()
