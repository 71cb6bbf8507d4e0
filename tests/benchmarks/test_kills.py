"""The kill harness: a sample of ten kills of the real thing, and that it sees what it is there to see."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.blows import MOMENTS, MOST_ROWS, VICTIMS, Blow, blows
from benchmarks.killed_run import Counts, KilledRun, same_bits
from benchmarks.kills import kill_in_turns, overrides, report
from moe_hub.architectures import ARCHITECTURES
from moe_hub.config import load_config
from moe_hub.runs.status import Status, write_status
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.runs.writer import METRICS_FILE, MetricWriter

BLOW = Blow("trainer", "stepping", 1, 0.5, 0.0)


def made(folder: Path, values: dict[int, float], attempt: int = 0) -> RunDirectory:
    run = RunStore(folder).create(load_config(overrides=overrides("dense", 9)))
    with MetricWriter(run.path, attempt) as writer:
        for step, value in values.items():
            writer.write(step, {"train/loss": value}, time=0.0)
    write_status(run.path, Status(state="finished", step=max(values)))
    return run


def watched(run: RunDirectory) -> KilledRun:
    return KilledRun(run, site=None, counts=Counts())  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.training
def test_ten_kills(tmp_path: Path) -> None:
    counts = kill_in_turns(tmp_path, 10, seed=3, jobs=2, architectures=["geometric", "ghost"], steps=60)
    result = report(counts)
    print(result.text())
    assert counts.all_kills == 10
    assert counts.runs >= 2
    assert len({name.split(",")[0] for name in counts.kills}) >= 2
    assert [goal.text for goal in result.goals if not goal.met] == []


def test_blows_are_those_of_their_seed_and_of_every_kind() -> None:
    assert list(islice(blows(3), 50)) == list(islice(blows(3), 50)) != list(islice(blows(4), 50))
    many = list(islice(blows(0), 400))
    assert {(each.victim, each.moment) for each in many} == {(who, when) for who in VICTIMS for when in MOMENTS}
    assert all(0 <= each.rows <= MOST_ROWS and 0 <= each.share < 1 for each in many)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_has_a_small_run(architecture: str) -> None:
    assert load_config(overrides=overrides(architecture, 40)).model.architecture == architecture


def test_it_sees_a_lost_row(tmp_path: Path) -> None:
    run = made(tmp_path / "runs", {1: 1.0, 2: 2.0, 3: 3.0})
    whole = (run.path / METRICS_FILE).read_bytes()
    watched(run)._check_files(whole, BLOW)
    lines = whole.splitlines(keepends=True)
    (run.path / METRICS_FILE).write_bytes(lines[0] + lines[2])
    with pytest.raises(AssertionError, match="rows were lost"):
        watched(run)._check_files(whole, BLOW)
    with pytest.raises(AssertionError, match=r"whose rows are not there: \[2\]"):
        watched(run)._check_files(b"", BLOW)


def test_it_counts_unfinished_rows_and_refuses_a_second(tmp_path: Path) -> None:
    run = made(tmp_path / "runs", {1: 1.0})
    with (run.path / METRICS_FILE).open("ab") as file:
        file.write(b'{"step": 2, "ti')
    killed = watched(run)
    killed._check_files(b"", BLOW)
    assert killed.counts.unfinished == 1
    with (run.path / METRICS_FILE).open("ab") as file:
        file.write(b'\n{"step"\n{"step": 2, "t')
    with pytest.raises(AssertionError, match="2 unfinished rows"):
        killed._check_files(b"", BLOW)


@pytest.mark.parametrize(
    "values", [{1: 1.0, 2: 2.5}, {1: 1.0}, {1: 1.0, 2: 2.0, 3: 3.0}], ids=["other value", "a row less", "a row more"]
)
def test_it_sees_rows_that_are_not_those_of_the_reference(values: dict[int, float], tmp_path: Path) -> None:
    reference = made(tmp_path / "whole", {1: 1.0, 2: 2.0})
    watched(made(tmp_path / "runs", {1: 1.0, 2: 2.0}, attempt=4))._compare_rows(reference)
    with pytest.raises(AssertionError):
        watched(made(tmp_path / "runs", values))._compare_rows(reference)


def test_it_sees_one_wrong_bit(tmp_path: Path) -> None:
    weights = {"a": np.array([1.0, 2.0], np.float32), "b": np.zeros(3, np.int64)}
    other = {**weights, "a": np.nextafter(weights["a"], np.float32(9), dtype=np.float32)}
    assert same_bits(weights, {**weights})
    assert not same_bits(weights, other)
    assert not same_bits(weights, {"a": weights["a"]})
    runs = [made(tmp_path / "runs", {1: 1.0}) for _ in range(3)]
    for run, values in zip(runs, (weights, weights, other), strict=True):
        _checkpoint(run, values)
    assert watched(runs[0])._differences(runs[1]) == []
    assert watched(runs[0])._differences(runs[2])


def test_the_report_fails_where_a_goal_is_missed() -> None:
    counts = Counts(kills={"trainer, saving": 3}, interrupted_s=[0.1, 11.0], runs=1)
    missed = [goal.text for goal in report(counts).goals if not goal.met]
    assert missed == ["from the kill to `interrupted` in the run's files, slowest, s"]
    assert json.dumps(report(counts).as_json())


def _checkpoint(run: RunDirectory, values: dict[str, Any]) -> None:
    folder = run.path / "checkpoints" / "step_00000001"
    folder.mkdir()
    for name in ("model.safetensors", "optimizer.safetensors"):
        save_file(values, folder / name)
