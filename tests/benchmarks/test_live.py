"""The parts `data` and `live` at tiny sizes: what they make is what they say, and what they measure is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import live_browser, live_reading, made_runs, row_writer
from benchmarks.calibration import calibration_s
from benchmarks.dashboard import Dashboard, browser
from benchmarks.findings import Findings, percentile, timed
from benchmarks.parts import data
from benchmarks.parts.live import Sizes
from moe_hub.runs.live import LiveReader
from moe_hub.runs.store import RunDirectory


@pytest.fixture
def found() -> Findings:
    return Findings(unit_s=0.01)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = made_runs.new_run(tmp_path / "runs", "made")
    made_runs.write_scalars(made, 300, spike=(123, 50.0))
    return made


def test_the_unit_is_work() -> None:
    assert 1e-3 < calibration_s(1) < 10


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(value) for value in range(1, 101)], 0.95) == 95.0
    assert percentile([float(value) for value in range(1, 16)], 0.95) == 15.0


def test_times_are_printed_with_their_unit(found: Findings) -> None:
    with timed() as span:
        sum(range(200_000))
    assert 0 < span.cpu_s < 5
    found.time("walk", cpu_s=0.02, wall_s=0.05)
    found.at_most("walk, ms", 20.0, 10)
    found.holds("arrives", True)
    text = found.finish("Walks").text()
    assert "| walk | 20     | 2     | 50      | 5" in text
    assert "MISSED by 10: walk, ms: 20, goal at most 10" in text
    assert "met: arrives (1: yes)" in text


def test_made_scalars_hold_one_spike(run: RunDirectory) -> None:
    steps, values = LiveReader(run.path).history().series("train/loss")
    assert steps.tolist() == list(range(300))
    assert np.flatnonzero(values > 10).tolist() == [123]
    assert run.state() == "finished"


def test_made_tables_have_their_shape(tmp_path: Path) -> None:
    made = made_runs.new_run(tmp_path, "heat")
    made_runs.write_tables(made, 120, 2, 4)
    steps, loads = LiveReader(made.path).history().arrays("expert/load")
    assert (steps.size, loads.shape) == (120, (120, 2, 4))
    np.testing.assert_allclose(loads.sum(2), 1, atol=1e-4)


def test_rows_written_at_a_rate_are_all_there(tmp_path: Path) -> None:
    assert row_writer.write(tmp_path, 20, 200) == 0
    history = LiveReader(tmp_path).history()
    assert history.total_rows == 20
    assert len([name for name in history.names() if name.startswith(("train/", "loss/"))]) == 10


@pytest.mark.slow
def test_reading_is_measured(found: Findings, run: RunDirectory, tmp_path: Path) -> None:
    other = made_runs.new_run(tmp_path / "runs", "other")
    made_runs.write_scalars(other, 50)
    live_reading.measure_writer(found, tmp_path, blocks=3, rows=20)
    live_reading.measure_opening(found, run, 300)
    content = live_reading.measure_many(found, [run, other])
    live_reading.measure_polls(found, tmp_path / "runs", run, 1)
    assert b"train/loss" in content
    names = [goal.text for goal in found.result.goals]
    assert {name[:2] for name in names} == {"G2", "G3", "G4", "G6"}
    assert all(goal.measured > 0 for goal in found.result.goals)


def test_a_scale_makes_it_longer_up_to_the_goal() -> None:
    assert Sizes().scaled(100).writers_s == 60
    assert Sizes().scaled(2).drawn_rows == 2 * Sizes().drawn_rows
    assert Sizes().scaled(0.01).polls >= 3


@pytest.mark.slow
def test_a_text_is_loaded_once_and_a_changed_byte_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "SETTLE_S", 0)
    path = tmp_path / "text.txt"
    data.write_text(path, 200_000)
    assert path.stat().st_size == 200_000
    before = path.read_bytes()
    loads = data.measure(path, tmp_path / "cache", 2)
    assert sum(a != b for a, b in zip(before, path.read_bytes(), strict=True)) == 1
    hits = {name: [load.hit for load in found] for name, found in loads.items()}
    assert hits["batches, first"] == [False]
    assert hits["batches, again"] == [True, True]
    assert hits["batches, one byte changed"] == [False]
    assert "content changed" in loads["batches, one byte changed"][0].reason


@pytest.mark.browser
@pytest.mark.timeout(900)  # ten processes and two tabs: a busy machine takes its time
def test_a_row_is_timed_until_it_is_drawn(found: Findings, run: RunDirectory, tmp_path: Path, playwright: Any) -> None:
    with Dashboard(run.path.parent, tmp_path / "data") as site, browser(playwright) as tabs:
        page = live_browser.open_on(tabs, site, run, live_reading.LOSS, 299)
        live_browser.measure_latency(found, page, run, 299, 1, "tiny")
        assert site.memory_mb()[0] > 30
        live_browser.measure_writers(found, site, tabs, run.path.parent, 1.0)
    assert site.process.poll() is not None
    goal, *writers = found.result.goals
    assert [each.measured for each in writers] == [1, 1]
    assert 0 < goal.measured < 60
