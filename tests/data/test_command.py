"""`python -m moe_hub.data`: what it prints and its exit codes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from moe_hub.config import load_config
from moe_hub.data.__main__ import main
from moe_hub.data.corpus import open_corpus
from moe_hub.lambda_calculus.tasks import TaskSettings, make_sample


def test_tasks_are_those_of_the_generator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tasks.jsonl"
    sizes = ["--min-size", "7", "--max-size", "9", "--levels", "2,1", "--layout", "direct", "--split", "val"]
    assert main(["lambda", "--out", str(out), "--num", "12", "--seed", "5", *sizes]) == 0
    settings = TaskSettings((1, 2), 7, 9, "direct")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines == [asdict(make_sample(settings, "val", 5, index)) for index in range(12)]
    assert "12 tasks of split val" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["tasks.jsonl"]


def test_a_generated_file_trains_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "tasks.jsonl"
    main(["lambda", "--out", str(out), "--num", "60", "--layout", "direct"])
    config = load_config(overrides=("data.source=file", f"data.path={out}"))
    facts = open_corpus(config, cache_dir=tmp_path / "cache").facts
    assert facts["rows"] == 60
    assert "prompt from 'prompt', answer from 'answer'" in facts["format"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--num", "0"], "--num 0"),
        (["--num", "3", "--levels", "one"], "--levels"),
        (["--num", "3", "--levels", "99"], "levels"),
        (["--num", "3", "--max-size", "3"], "max_size"),
    ],
)
def test_wrong_options_are_explained(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lambda", "--out", str(tmp_path / "x"), *options]) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_be_written_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lambda", "--out", str(tmp_path / "no" / "x"), "--num", "1"]) == 2
    assert "choose another place" in capsys.readouterr().err


def test_inspect_takes_config_keys_and_refuses_unknown_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n" + "".join(f"x{i},y{i}\n" for i in range(20)))
    assert main(["inspect", str(path)]) == 2
    assert "data.prompt_column" in capsys.readouterr().out
    assert main(["inspect", str(path), "--set", "data.prompt_column=a", "--set", "data.answer_column=b"]) == 0
    assert "question_answer: prompt from 'a', answer from 'b'" in capsys.readouterr().out
    assert main(["inspect", str(path), "--set", "data.prompt_colum=a"]) == 2
    assert "did you mean data.prompt_column" in capsys.readouterr().err


def test_cache_is_listed_and_purged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOE_HUB_DATA", str(tmp_path))
    path = tmp_path / "text.txt"
    path.write_text("some text\n" * 100)
    key = open_corpus(load_config(overrides=("data.source=file", f"data.path={path}"))).facts["cache_key"]
    assert main(["cache", "list"]) == 0
    shown = capsys.readouterr().out
    assert key[:12] in shown
    assert str(path) in shown
    assert main(["cache", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"][0]["key"] == key
    assert main(["cache", "purge", "ffff"]) == 0
    assert "0 entries" in capsys.readouterr().out
    assert main(["cache", "purge", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"] == 1
    assert main(["cache", "list"]) == 0
    assert "0 entries, 0 bytes" in capsys.readouterr().out
