"""Duplicates, leakage and the split, against counting by hand and drawing at random."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_hub.config import load_config
from moe_hub.data.formats import Document, normalised
from moe_hub.data.inspection import as_text, histogram, inspect
from moe_hub.data.quality import Survey, held_out_rows, random_split_leakage
from moe_hub.errors import DataError

# The public questions, where they stand in a folder beside the checkout or in the one that is named.
BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"
SHARED = Path(os.environ.get("MOE_HUB_SHARED_DATA", BESIDE)) / "lambda_reductions.json"


def test_leakage_of_a_random_split_is_what_drawing_finds() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 200).astype(np.uint64)
    drawn = []
    for _ in range(3000):
        held_out = rng.random(200) < 0.1
        if held_out.any():
            drawn.append((np.isin(groups[held_out], groups[~held_out]).sum(), held_out.sum()))
    leaked, rows = np.sum(drawn, 0)
    assert random_split_leakage(groups, 0.1) == pytest.approx(leaked / rows, abs=0.005)
    assert random_split_leakage(np.arange(50, dtype=np.uint64), 0.1) == 0.0
    assert random_split_leakage(np.zeros(50, np.uint64), 0.1) > 0.99


@settings(max_examples=100, deadline=None)
@given(
    groups=st.lists(st.integers(0, 12), min_size=2, max_size=200).filter(lambda groups: len(set(groups)) > 1),
    share=st.floats(0.01, 0.8),
    most=st.integers(1, 100),
)
def test_whole_groups_are_held_out_within_the_share(groups: list[int], share: float, most: int) -> None:
    array = np.array(groups, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    held_out = held_out_rows(array, share, most, "f")
    assert 0 < held_out.sum() < len(groups)
    assert not set(array[held_out]) & set(array[~held_out])
    smallest = min(groups.count(group) for group in set(groups))
    assert held_out.sum() <= max(1, min(most, int(share * len(groups))), smallest)
    np.testing.assert_array_equal(held_out, held_out_rows(array, share, most, "f"))


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(DataError, match="at least 2"):
        held_out_rows(np.zeros(9, np.uint64), 0.1, 5, "f")


def test_duplicates_are_counted() -> None:
    survey = Survey()
    for question, answer in (("a", "1"), ("a", "1"), ("A ", "1"), ("a", "2"), ("b", "1")):
        parts = ((f"{question}\n", False), (answer, True))
        survey.add(Document(parts, normalised(question)))
    assert survey.duplicates() == {
        "rows": 5,
        "exact_duplicates": 1,
        "normalised_duplicates": 2,
        "distinct_questions": 3,
        "distinct_questions_normalised": 2,
        "questions_with_several_answers": 1,
    }


def test_histogram_counts_every_length() -> None:
    found = histogram(np.array([0, 1, 1, 2, 3, 4, 7, 8, 100]), "tokens")
    bins = {(entry["from"], entry["to"]): entry["count"] for entry in found["histogram"]}
    assert bins == {(0, 0): 1, (1, 1): 2, (2, 3): 2, (4, 7): 2, (8, 15): 1, (64, 127): 1}
    assert (found["median"], found["largest"]) == (3, 100)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_file(), reason="the public lambda-calculus questions are not on this machine")
def test_public_lambda_questions_would_leak(tmp_path: Path) -> None:
    report = inspect(load_config(overrides=("data.source=file", f"data.path={SHARED}")), cache_dir=tmp_path)
    assert report.usable
    assert report.rows == 1000
    assert report.duplicates["distinct_questions"] == 68
    assert report.duplicates["distinct_questions_normalised"] == 54
    assert report.leakage["random_split"] > 0.98
    assert report.leakage["split_by_group"] == 0.0
    assert "a random split would leak" in as_text(report)
    assert report.tokens["padding_share"] < 0.02


def test_rows_of_one_text_and_repeated_lines_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("a line that is long enough to matter\nshort\n" * 50)
    report = inspect(load_config(overrides=("data.source=file", f"data.path={path}")), cache_dir=tmp_path / "cache")
    assert report.usable
    assert report.duplicates == {"lines": 100, "characters": 2150, "repeated_lines": 49}
