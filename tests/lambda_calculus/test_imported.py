"""Rows of question / reasoning / answer: verdicts, groups up to alpha, reasoning, and the audit of the public set."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from moe_hub.errors import DataError
from moe_hub.lambda_calculus.imported import audit, judge_row, judge_rows, read_rows

ROWS = [
    {"question": "((λx.x) a)", "reasoning": "Apply: replace x - Substitute - a", "answer": "a"},
    {"question": "(λy.y) a", "reasoning": "One - b\n####\nTwo - a", "answer": "(a)"},
    {"question": "(λx.x) b", "answer": "(λx.x) b"},
    {"question": "(λx.λy.x) y", "reasoning": "", "answer": "λy.y"},
    {"question": "(λx.x x) (λx.x x)", "reasoning": "Round - (λx.x x) (λx.x x)", "answer": "none"},
    {"question": "(λx.x", "answer": "a"},
    {"question": "(λx.x) a", "answer": "(a"},
]


def test_verdicts_and_groups():
    judged = judge_rows(ROWS)
    assert [row.kind for row in judged] == [
        "right", "right", "beta-equal", "wrong", "divergent", "not a term", "not a term",
    ]  # fmt: skip
    assert judged[0].group == judged[1].group == judged[6].group == "@ lam 0 a"
    assert judged[2].group == "@ lam 0 b", "free names matter"
    assert [row.steps for row in judged] == [1, 1, 1, 1, None, None, 1]
    assert judged[3].expected == "λ x . y"
    assert judged[0].reasoning_valid == (True,)
    assert judged[1].reasoning_valid == (False, True)
    assert judged[5].problem.startswith("question: ")
    assert [row.number for row in judged] == [1, 2, 3, 4, 5, 6, 7]


def test_reasoning_that_cannot_be_read():
    row = {"question": "(λx.x) a", "answer": "a", "reasoning": "so it goes: a.\n####\nthen - a"}
    assert judge_row(row).reasoning_valid == (None, True)


def test_audit_counts():
    found = audit([*ROWS, ROWS[0]])
    assert (found.rows, found.questions, found.pairs, found.groups) == (8, 7, 7, 4)
    assert found.repeated_rows == 3
    assert found.divergent_questions == 1
    assert found.kinds == {"right": 3, "beta-equal": 1, "wrong": 1, "divergent": 1, "not a term": 2}
    assert found.steps == {1: 6, None: 1}
    assert (found.reasoning_steps, found.reasoning_valid) == (5, 4)


@pytest.mark.parametrize("row", [{"question": "a"}, {"question": "a", "answer": None}, {"answer": "a"}])
def test_missing_fields(row):
    with pytest.raises(DataError, match="row 3: field"):
        judge_row(row, 3)


def test_reading(tmp_path: Path):
    array, lines = tmp_path / "rows.json", tmp_path / "rows.jsonl"
    array.write_text("\ufeff" + json.dumps(ROWS), encoding="utf-8")
    lines.write_text("\n\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    assert read_rows(array) == read_rows(lines) == ROWS


@pytest.mark.parametrize(
    ("content", "part"),
    [(b"[1]", "row 1: expected an object, found a int"), (b"{", "is not JSON"), (b"\xff\xfe[", "is not UTF-8")],
)
def test_bad_files(tmp_path: Path, content, part):
    path = tmp_path / "rows.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_rows(path)
    assert part in str(caught.value)
    with pytest.raises(DataError, match="No such file"):
        read_rows(tmp_path / "none.json")


def test_the_public_set():
    """The 1,000 rows of the public set; in a folder beside the checkout, or where MOE_HUB_SHARED_DATA says."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    path = Path(os.environ.get("MOE_HUB_SHARED_DATA", beside)) / "lambda_reductions.json"
    if not path.is_file():
        pytest.skip(f"{path} is not here; set MOE_HUB_SHARED_DATA to its folder")
    found = audit(read_rows(path))
    assert (found.rows, found.questions, found.pairs, found.groups) == (1000, 68, 102, 54)
    assert found.kinds == {"right": 980, "beta-equal": 7, "wrong": 13, "divergent": 0, "not a term": 0}
    assert found.steps == {1: 180, 2: 253, 3: 404, 4: 162, 5: 1}
    assert found.repeated_rows == 946
