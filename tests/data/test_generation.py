"""Generated tasks are the same whether one process makes them or many; errors speak of the config's keys."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from moe_hub.config import load_config
from moe_hub.data import generation
from moe_hub.data.corpus import open_corpus
from moe_hub.data.facts import estimate
from moe_hub.data.generation import tasks
from moe_hub.errors import DataError
from moe_hub.lambda_calculus.tasks import TaskSettings, make_sample

SETTINGS = TaskSettings()


@pytest.mark.parametrize("count", [1, 49, 50, 51, 180])
@pytest.mark.parametrize("worth_s", [0.0, 1e9])
def test_processes_change_nothing(count: int, worth_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "WORTH_S", worth_s)
    expected = [make_sample(SETTINGS, "train", 3, index) for index in range(count)]
    assert list(tasks(SETTINGS, "train", 3, count)) == expected
    assert multiprocessing.active_children() == []


def test_stopping_early_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "WORTH_S", 0.0)
    made = tasks(SETTINGS, "train", 0, 10_000)
    first = [next(made) for _ in range(60)]
    made.close()
    assert len(first) == 60
    assert multiprocessing.active_children() == []


def test_impossible_tasks_name_the_keys_of_the_config(tmp_path: Path) -> None:
    config = load_config(overrides=("data.max_term_size=6", "data.levels=[5]"))
    for look in (open_corpus, estimate):
        with pytest.raises(DataError, match=r"data\.max_term_size = 6 is too small for level 5"):
            look(config, cache_dir=tmp_path)
    with pytest.raises(DataError, match=r"model\.max_seq_len - 2"):
        open_corpus(load_config(overrides=("model.max_seq_len=16",)), cache_dir=tmp_path)
