"""No data file, however broken, gives a traceback or a half-written cache; each message says where and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import fuzz
import pytest
from malformed import CASES, Case

from moe_hub.config import Config, load_config
from moe_hub.data.__main__ import main
from moe_hub.data.cache import entries
from moe_hub.data.corpus import open_corpus
from moe_hub.data.inspection import as_text, inspect
from moe_hub.errors import DataError


def config_for(path: Path, *overrides: str) -> Config:
    return load_config(overrides=("data.source=file", f"data.path={json.dumps(str(path))}", *overrides))


def test_there_are_enough_kinds() -> None:
    assert sum(not case.usable for case in CASES) >= 40
    assert len({case.name for case in CASES}) == len(CASES)


# Files of many megabytes take seconds: they are not among the unit tests.
LARGE = 5_000_000
EACH = [
    pytest.param(case, id=case.name, marks=[pytest.mark.slow] if len(case.content) > LARGE else []) for case in CASES
]


@pytest.mark.parametrize("case", EACH)
def test_file_is_read_or_explained(case: Case, tmp_path: Path) -> None:
    path, cache = tmp_path / case.name, tmp_path / "cache"
    path.write_bytes(case.content)
    config = config_for(path)
    report = inspect(config, cache_dir=cache)
    text = as_text(report)
    assert report.usable is case.usable, text
    for word in case.words:
        assert word in text, text
    if case.usable:
        assert entries(cache)
        return
    with pytest.raises(DataError) as caught:
        open_corpus(config, cache_dir=cache)
    assert case.name in str(caught.value)
    assert len(str(caught.value)) < 1500, "a message is for people"
    assert not entries(cache)
    assert not [item for item in cache.glob(".*") if item.is_dir()], "a half-written entry"


def test_command_says_2_and_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "null_answer.jsonl"
    path.write_bytes(next(case.content for case in CASES if case.name == path.name))
    assert main(["inspect", str(path)]) == 2
    out = capsys.readouterr().out
    assert f"{path}, line 9, column 'answer': expected a text, found null" in out
    assert main(["inspect", str(path), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["rows"] == 41
    assert report["bad_rows"] == 1
    assert report["first_bad_rows"][0] | {"fix": ""} == {
        "line": 9, "field": "answer", "expected": "a text", "found": "null", "fix": "",
    }  # fmt: skip
    assert main(["inspect", str(path), "--set", "data.bad_rows=skip"]) == 0


def test_a_row_that_is_skipped_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "null_answer.jsonl"
    path.write_bytes(next(case.content for case in CASES if case.name == path.name))
    facts = open_corpus(config_for(path, "data.bad_rows=skip"), cache_dir=tmp_path / "cache").facts
    assert (facts["rows"], facts["bad_rows"]) == (40, 1)


@pytest.mark.slow
def test_fuzzed_files(tmp_path: Path) -> None:
    """More of them: the next test, and `python tests/data/fuzz.py --num 10000`."""
    assert fuzz.run(50, seed=1, folder=tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_many_fuzzed_files(tmp_path: Path) -> None:
    assert fuzz.run(1000, seed=2, folder=tmp_path) == []
