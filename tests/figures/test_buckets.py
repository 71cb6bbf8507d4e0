"""Which rows are drawn, against a loop over buckets."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_hub.figures import buckets
from moe_hub.figures.buckets import select, visible


def reference(x: np.ndarray, y: np.ndarray, count: int, *, log_x: bool = False) -> set[int]:
    """First, last, lowest, highest and first not finite row of each bucket, one row at a time."""
    rows = [row for row in range(len(x)) if not log_x or x[row] > 0]
    if any(x[a] > x[b] for a, b in itertools.pairwise(rows)) or x[rows[0]] == x[rows[-1]]:
        edges = sorted({int(row) for row in np.linspace(0, len(rows), min(count, len(rows)), endpoint=False)})
        parts = [rows[a:b] for a, b in zip(edges, [*edges[1:], len(rows)], strict=True)]
    else:
        space = np.geomspace if log_x else np.linspace
        inner = space(x[rows[0]], x[rows[-1]], count + 1)[1:-1]
        parts = [[] for _ in range(count)]
        for row in rows:
            parts[int((inner <= x[row]).sum())].append(row)
    chosen: set[int] = set()
    for part in parts:
        if not part:
            continue
        chosen |= {part[0], part[-1]}
        finite = [row for row in part if math.isfinite(y[row])]
        if finite:
            chosen |= {min(finite, key=lambda row: (y[row], row)), max(finite, key=lambda row: (y[row], -row))}
        chosen |= {row for row in part if not math.isfinite(y[row])} and {
            next(row for row in part if not math.isfinite(y[row]))
        }
    return chosen


values = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 5.0]))


@settings(max_examples=200, deadline=None)
@given(
    y=st.lists(values, min_size=1, max_size=120), count=st.integers(1, 30), kind=st.integers(0, 3), log_x=st.booleans(),
    loop=st.booleans(), seed=st.integers(0, 5),
)  # fmt: skip
def test_the_rows_of_the_loop(y: list[float], count: int, kind: int, log_x: bool, loop: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = len(y)
    x = {
        0: np.arange(size, dtype=float), 1: np.cumsum(rng.exponential(size=size)), 2: rng.permutation(size) + 1.0,
        3: np.full(size, 7.0),
    }[kind]  # fmt: skip
    if log_x and not (x > 0).any():
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "_LOOP_FROM", 0 if loop else 10**9)
        found = select(x, np.array(y), count, log_x=log_x, raw_rows=0)
    assert set(found.tolist()) == reference(x, np.array(y), count, log_x=log_x)
    assert found.tolist() == sorted(found.tolist())


def test_few_rows_are_drawn_as_they_are() -> None:
    x = np.arange(2002.0)
    assert select(x, np.sin(x), 100).size == 2002
    assert select(np.arange(2003.0), np.zeros(2003), 100).size < 2003


@pytest.mark.parametrize("place", [0, 1, 499_999, 777_777, 999_998, 999_999])
def test_a_spike_of_one_row_in_a_million_is_drawn(place: int) -> None:
    y = np.random.default_rng(0).normal(size=1_000_000)
    y[place] = 100.0
    y[max(0, place - 3)] = np.nan  # in the same bucket
    found = select(np.arange(1_000_000.0), y, 1000)
    assert place in found
    assert found[0] == 0
    assert found[-1] == 999_999
    assert found.size <= 5000


def test_visible_rows_reach_beyond_the_edges() -> None:
    x = np.array([0.0, 1, 2, 3, 4, 5])
    assert visible(x, (2.0, 3.0)) == slice(1, 5)
    assert visible(x, (2.4, 2.6)) == slice(2, 4)
    assert visible(x, (-9.0, -8.0)) == slice(0, 1)
    assert visible(x, (8.0, 9.0)) == slice(5, 6)
    assert visible(x, None) == slice(0, 6)
    assert visible(x[::-1], (2.0, 3.0)) == slice(0, 6)
