"""A history made from rows: names, axes, and that nothing in it can be changed."""

from __future__ import annotations

import numpy as np
import pytest

from moe_hub.runs.history import RunHistory

ROWS = [
    {"step": 10, "time": 100.0, "tokens": 1000, "train/loss": 2.0, "expert/load": [[0.5, 0.5]], "time/active_s": 1.0},
    {"step": 20, "time": 160.0, "tokens": 2000, "train/loss": 1.0, "val/loss": 1.5},
    {
        "step": 30,
        "time": 165.0,
        "tokens": 3000,
        "train/loss": "NaN",
        "expert/load": [[0.1, 0.9]],
        "time/active_s": 11.0,
    },
]


@pytest.fixture
def history() -> RunHistory:
    return RunHistory("run", {"name": "probe", "model": {"layers": [1, 2]}}, None, ROWS)


def test_names_and_matching(history: RunHistory) -> None:
    assert history.names() == {"train/loss", "val/loss", "expert/load", "time/active_s"}
    assert history.matching("train/") == ["train/loss"]
    assert history.matching("nothing") == []


def test_series_and_arrays(history: RunHistory) -> None:
    steps, values = history.series("train/loss")
    assert steps.tolist() == [10, 20, 30]
    np.testing.assert_array_equal(values, [2.0, 1.0, np.nan])
    steps, load = history.arrays("expert/load")
    assert steps.tolist() == [10, 30]
    assert load.shape == (2, 1, 2)
    assert load.dtype == np.float32
    assert history.series("expert/load")[1].size == 0
    assert history.series("unknown")[0].size == 0


def test_axes(history: RunHistory) -> None:
    assert history.x_values("expert/load", "step").tolist() == [10, 30]
    assert history.x_values("expert/load", "tokens").tolist() == [1000, 3000]
    assert history.x_values("expert/load", "time").tolist() == [0, 65]
    assert history.x_values("train/loss", "active_time").tolist() == [1, 6, 11]
    assert history.x_values("unknown", "active_time").size == 0


def test_active_time_without_a_clock_is_the_time() -> None:
    rows = [{"step": 1, "time": 5.0, "a": 1}, {"step": 2, "time": 8.0, "a": 1}]
    assert RunHistory("run", rows=rows).x_values("a", "active_time").tolist() == [0, 3]


def test_nothing_can_be_changed(history: RunHistory) -> None:
    for array in (*history.series("train/loss"), *history.arrays("expert/load"), history.x_values("val/loss", "time")):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(TypeError):
        history.config["name"] = "other"  # type: ignore[index]
    with pytest.raises(AttributeError):
        history.config["model"]["layers"].append(3)


def test_remember_computes_once_and_lets_old_values_go(history: RunHistory) -> None:
    calls: list[int] = []

    def compute(size: int) -> np.ndarray:
        calls.append(size)
        return np.zeros(size)

    for _ in range(2):
        assert history.remember("small", lambda: compute(10)).size == 10
    assert calls == [10]
    for index in range(3):
        history.remember(index, lambda: compute(4 << 20))
    assert sum(item.nbytes for item in history.snapshot.remembered.values()) <= 64 << 20


def test_rows_of_arrays_are_taken_as_they_are() -> None:
    history = RunHistory(
        "run", rows=[{"step": 0, "m": np.eye(2), "a": np.float32(1.5)}, {"step": 1, "m": ((1, 2), (3, 4))}]
    )
    assert history.arrays("m")[1].tolist() == [[[1, 0], [0, 1]], [[1, 2], [3, 4]]]
    assert history.series("a")[1].tolist() == [1.5]
