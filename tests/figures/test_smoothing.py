"""Smoothing and trend against plain loops, numpy's least squares and simulated noise."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import pytest

from moe_hub.figures.smoothing import smooth, student_975, trend


def slow_average(values: list[float], weight: float) -> list[float]:
    """The recursion as it is written in the paper."""
    total = share = 0.0
    found = []
    for value in values:
        finite = math.isfinite(value)
        total = weight * total + (1 - weight) * (value if finite else 0.0)
        share = weight * share + (1 - weight) * finite
        found.append(total / share if finite else math.nan)
    return found


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.6, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("holes", [0, 40])
def test_smoothing_is_the_debiased_recursion(weight: float, holes: int) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(3, 1, 3000)
    values[rng.integers(0, 3000, holes)] = np.nan
    values[rng.integers(0, 3000, holes // 10)] = np.inf
    np.testing.assert_allclose(smooth(values, weight), slow_average(values.tolist(), weight), rtol=1e-10)


def test_a_constant_stays_one_and_the_first_value_is_itself() -> None:
    assert smooth([0.1] * 500, 0.97).tolist() == [0.1] * 500
    assert smooth([5.0, 1.0], 0.9)[0] == 5.0
    assert smooth([], 0.9).size == 0


def test_smoothing_a_million_rows_is_quick(cpu_s: Callable[..., float]) -> None:
    values = np.random.default_rng(0).normal(size=1_000_000)
    assert cpu_s(lambda: smooth(values, 0.99), repeats=3, clock=time.process_time) < 0.5


def test_the_trend_is_least_squares() -> None:
    rng = np.random.default_rng(2)
    x = np.cumsum(rng.exponential(size=200))
    y = 3 - 0.2 * x + rng.normal(size=200)
    y[7] = np.nan
    kept = np.isfinite(y)
    slope, level = np.polyfit(x[kept], y[kept], 1)
    found = trend(x, y)
    assert found is not None
    assert found.slope == pytest.approx(slope)
    assert found.at([0.0])[0] == pytest.approx(level)
    assert found.rows == 199


def test_the_interval_of_white_noise_is_the_textbook_one() -> None:
    rng = np.random.default_rng(5)
    x = np.arange(50.0)
    y = rng.normal(size=50)
    residual = y - np.polyval(np.polyfit(x, y, 1), x)
    if residual[1:] @ residual[:-1] > 0:  # the allowance for correlation only widens: turn it off for this check
        y = y * (-1) ** np.arange(50)
        residual = y - np.polyval(np.polyfit(x, y, 1), x)
    assert residual[1:] @ residual[:-1] <= 0
    error = math.sqrt(residual @ residual / 48 / ((x - x.mean()) ** 2).sum())
    found = trend(x, y)
    assert found is not None
    assert found.margin == pytest.approx(2.0106 * error, rel=1e-3)


@pytest.mark.parametrize(("memory", "least"), [(0.0, 0.92), (0.5, 0.90), (0.8, 0.85)])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(memory: float, least: float) -> None:
    rng = np.random.default_rng(11)
    held = 0
    for _ in range(400):
        noise = rng.normal(size=300)
        for row in range(1, 300):
            noise[row] += memory * noise[row - 1]
        found = trend(np.arange(300.0), 0.01 * np.arange(300) + noise)
        assert found is not None
        held += abs(found.slope - 0.01) <= found.margin
    assert held / 400 >= least


def test_too_few_rows_have_no_trend() -> None:
    assert trend([1, 2, 3, 4], [1, 2, 3, 4]) is None
    assert trend([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]) is None
    assert trend(np.arange(9), np.full(9, np.nan)) is None
    flat = trend(np.arange(9), np.ones(9))
    assert flat is not None
    assert (flat.slope, flat.margin) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("freedom", "value"), [(1, 12.706), (5, 2.571), (30, 2.042), (40, 2.021), (60, 2.000), (120, 1.980), (1e6, 1.960)]
)
def test_student(freedom: float, value: float) -> None:
    assert student_975(freedom) == pytest.approx(value, abs=2e-3)
