"""The event files are read back by TensorBoard's own reader."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from moe_hub.config import load_config
from moe_hub.export.__main__ import main
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.runs.writer import MetricWriter

pytest.importorskip("tensorboard")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = RunStore(tmp_path / "runs").create(load_config("basic_comparison"))
    with MetricWriter(made.path) as writer:
        for step in range(5):
            values = {"train/loss": math.nan if step == 2 else 1 / (step + 1), "expert/load": [[0.25, 0.75]]}
            writer.write(step, values, time=1000.0 + step, tokens=step)
        writer.write(5, {"expert/similarity": [[[0.0] * 20] * 20]}, time=1005.0)
    return made


@pytest.mark.slow
def test_every_value_comes_back(run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator

    assert main(["tensorboard", "latest", "--runs-dir", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "3 tags, 15 values" in out
    assert "left out, for having too many entries: expert/similarity" in out
    events = EventAccumulator(str(tmp_path / "tensorboard" / run.run_id), size_guidance={TENSORS: 0}).Reload()
    assert set(events.Tags()["tensors"]) == {
        "train/loss",
        "expert/load/layer 0/expert 0",
        "expert/load/layer 0/expert 1",
    }
    found = events.Tensors("train/loss")
    assert [event.step for event in found] == [0, 1, 2, 3, 4]
    assert [event.wall_time for event in found] == [1000.0, 1001.0, 1002.0, 1003.0, 1004.0]
    values = [event.tensor_proto.float_val[0] for event in found]
    assert math.isnan(values[2])
    assert values[3] == pytest.approx(0.25)


def test_what_cannot_be_exported_says_so(run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    base = ["tensorboard", run.run_id, "--runs-dir", str(tmp_path / "runs")]
    assert main([*base, "--out", str(tmp_path / "full")]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main(["tensorboard", "nothing", "--runs-dir", str(tmp_path / "runs")]) == 2
    (run.path / "metrics.jsonl").unlink()
    assert main([*base, "--out", str(tmp_path / "new")]) == 2
    assert "no metrics yet" in capsys.readouterr().err
