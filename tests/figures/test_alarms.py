"""Alarms: what sets one off, and what does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moe_hub.figures.alarms import alarms, spikes
from moe_hub.runs.history import RunHistory


def run(rows: list[dict[str, Any]], experts: int = 3) -> RunHistory:
    return RunHistory("run", {"model": {"num_experts": experts}}, None, rows)


def noise(count: int = 300, seed: int = 0) -> np.ndarray:
    return 2 * np.exp(-np.arange(count) / 100) + 0.5 + np.random.default_rng(seed).normal(0, 0.05, count)


def test_a_healthy_run_has_none() -> None:
    for seed in range(20):
        rows = [{"step": step, "train/loss": value, "expert/utilization": [[1.0, 0.5, 0.02]]}
                for step, value in enumerate(noise(seed=seed).tolist())]  # fmt: skip
        assert alarms(run(rows)) == []


@pytest.mark.parametrize("height", [1.5, 50.0])
def test_a_spike_is_found_once_where_it_is(height: float) -> None:
    values = noise()
    values[200] += height
    found = alarms(run([{"step": 10 * step, "train/loss": value} for step, value in enumerate(values.tolist())]))
    assert [(alarm.kind, alarm.step) for alarm in found] == [("loss_spike", 2000)]
    assert np.flatnonzero(spikes(values)).tolist() == [200]


def test_a_loss_that_falls_or_drifts_is_no_spike() -> None:
    assert not spikes(np.linspace(5, 1, 500)).any()
    assert not spikes(np.linspace(1, 1.5, 500)).any()
    assert not spikes(np.ones(500)).any()
    assert not spikes(np.array([1.0, 9.0])).any()


def test_values_that_are_not_finite_are_named_with_their_first_step() -> None:
    rows: list[dict[str, Any]] = [
        {"step": step, "train/loss": 1.0, "a/x": 1.0, "expert/load": [[1.0]]} for step in range(5)
    ]  # fmt: skip
    rows[2]["train/loss"] = rows[4]["train/loss"] = "NaN"
    rows[3]["expert/load"] = [["Infinity"]]
    found = alarms(run(rows))
    assert [(alarm.metric, alarm.step) for alarm in found] == [("train/loss", 2), ("expert/load", 3)]
    assert "2 of 5 rows" in found[0].text


def test_what_is_not_known_yet_is_no_alarm() -> None:
    rows = [{"step": step, "ghost/loss_improvement": "NaN" if step < 5 or step == 8 else 0.1} for step in range(10)]
    assert [(alarm.metric, alarm.step) for alarm in alarms(run(rows))] == [("ghost/loss_improvement", 8)]
    assert alarms(run(rows[:5])) == []


def test_a_dead_expert_is_named_with_the_step_since_when() -> None:
    rows = [{"step": 10 * step, "expert/utilization": [[1.0, 0.5 if step < 4 else 0.001, 0.0]]} for step in range(9)]
    found = alarms(run(rows, experts=2))
    assert [(alarm.kind, alarm.step) for alarm in found] == [("dead_expert", 40)], "the third is a ghost that sleeps"
    assert "expert 1 of layer 0" in found[0].text
    assert alarms(run(rows[:6], experts=2)) == [], "two rows are no death"
