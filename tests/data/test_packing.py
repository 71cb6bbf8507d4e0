"""Packing: every piece once, no row overfull, close to the fewest rows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_hub.data.packing import Packing


@settings(max_examples=150, deadline=None)
@given(
    room=st.integers(1, 60),
    shares=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=80),
    seed=st.one_of(st.none(), st.integers(0, 5)),
)
def test_every_piece_stands_in_one_row_that_has_room(room: int, shares: list[float], seed: int | None) -> None:
    lengths = np.array([max(1, round(share * room)) for share in shares])
    packing = Packing(lengths, room)
    rows = packing.rows(None if seed is None else np.random.default_rng(seed))
    assert sorted(rows.members.tolist()) == list(range(len(lengths)))
    assert len(rows) == packing.num_rows >= -(-lengths.sum() // room)
    fills = rows.fills(lengths)
    assert fills.max() <= room
    assert fills.tolist() == [lengths[rows.row(index)].sum() for index in range(len(rows))]


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 10), min_size=1, max_size=8))
def test_close_to_the_fewest_rows(lengths: list[int]) -> None:
    """At most one row more than the best of all partitions; the usual bound of first-fit is 11/9 + 2/3."""
    assert Packing(np.array(lengths), 10).num_rows <= _fewest_rows(tuple(sorted(lengths)), 10) + 1


def _fewest_rows(lengths: tuple[int, ...], room: int) -> int:
    if not lengths:
        return 0
    first, *rest = lengths[::-1]
    best = len(lengths)
    for size in range(len(rest) + 1):
        for chosen in itertools.combinations(range(len(rest)), size):
            if first + sum(rest[i] for i in chosen) <= room:
                left = tuple(sorted(value for i, value in enumerate(rest) if i not in chosen))
                best = min(best, 1 + _fewest_rows(left, room))
    return best


@pytest.mark.parametrize(("low", "high", "room"), [(10, 40, 128), (20, 90, 256), (1, 128, 128), (40, 85, 128)])
def test_padding_of_short_pieces_is_below_2_percent(low: int, high: int, room: int) -> None:
    lengths = np.random.default_rng(0).integers(low, high + 1, 5000)
    assert lengths.sum() / (Packing(lengths, room).num_rows * room) > 0.98


def test_epochs_differ_and_repeat_with_their_seed() -> None:
    packing = Packing(np.random.default_rng(1).integers(5, 60, 400), 100)
    one, same, other = (packing.rows(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.members.tolist() == same.members.tolist() != other.members.tolist()


def test_fixed_order_follows_the_pieces() -> None:
    lengths = np.random.default_rng(3).integers(5, 60, 200)
    rows = Packing(lengths, 100).rows(None)
    firsts = [min(rows.row(index)) for index in range(len(rows))]
    assert firsts == sorted(firsts)
