"""Generated tasks are the same whether one process makes them or many; errors speak of the config's keys."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from moe_hub.config import load_config
from moe_hub.config.data import LEAST_MAX_TERM_SIZE
from moe_hub.data import generation
from moe_hub.data.corpus import open_corpus
from moe_hub.data.facts import estimate
from moe_hub.data.generation import tasks
from moe_hub.data.lambda_source import LambdaSource, distinct
from moe_hub.errors import ConfigError, DataError
from moe_hub.lambda_calculus.levels import LEVELS
from moe_hub.lambda_calculus.parser import parse_prefix
from moe_hub.lambda_calculus.tasks import TaskSettings, make_sample
from moe_hub.lambda_calculus.terms import Term, binder_depth, size

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


@pytest.mark.slow
def test_workers_of_a_killed_process_end(tmp_path: Path) -> None:
    """The pipe at which they wait stays open among themselves, so they must look whether their parent lives."""
    program = (
        "import multiprocessing, time\n"
        "from moe_hub.data import generation\n"
        "from moe_hub.lambda_calculus.tasks import TaskSettings\n"
        "generation.WORTH_S, generation._can_fork = 0.0, lambda: True\n"
        "made = generation.tasks(TaskSettings(), 'train', 0, 10_000_000)\n"
        "[next(made) for _ in range(60)]\n"
        "print([child.pid for child in multiprocessing.active_children()], flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [psutil.Process(pid) for pid in json.loads(parent.stdout.readline())]
        parent.kill()
    assert workers
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


def test_impossible_tasks_name_the_keys_of_the_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_term_size = 6 is too small for levels \[5\].*raise it to 16"):
        load_config(overrides=("data.max_term_size=6", "data.levels=[5]"))
    config = load_config(overrides=("data.max_term_size=30", "data.lambda_held_out=size"))
    for look in (open_corpus, estimate):
        with pytest.raises(DataError, match=r"data\.lambda_held_out = size: .* lower data\.max_term_size"):
            look(config, cache_dir=tmp_path)
    with pytest.raises(DataError, match=r"model\.max_seq_len - 2"):
        open_corpus(load_config(overrides=("model.max_seq_len=16",)), cache_dir=tmp_path)


def test_the_least_sizes_of_the_config_are_those_of_the_levels() -> None:
    assert {number: level.smallest_max_size for number, level in LEVELS.items()} == LEAST_MAX_TERM_SIZE
    elsewhere = ("data.source=file", "data.path=x.jsonl", "data.levels=[5]", "data.max_term_size=6")
    assert load_config(overrides=elsewhere).data.levels == (5,), "a file has no terms"


def test_held_out_terms_are_different_ones_and_none_is_trained_on(tmp_path: Path) -> None:
    few = ("data.num_train_samples=400", "data.num_eval_samples=200", "data.max_term_size=7", "data.levels=[2]")
    corpus = open_corpus(load_config(overrides=few), cache_dir=tmp_path)
    held_out = corpus.store.held_out == 1
    source = LambdaSource(load_config(overrides=few).data, 128)
    drawn = list(tasks(*source.held_out, source.seed, 200))
    assert 0 < int(held_out.sum()) == len({sample.term for sample in drawn}) < 200
    assert corpus.facts["rows"] == 400 + int(held_out.sum())
    assert corpus.facts["leaking_rows"] == 0


@pytest.mark.parametrize(
    ("name", "outside"),
    [
        ("size", lambda t: size(t) > 11),
        pytest.param("binder_depth", lambda t: binder_depth(t) > 3, marks=pytest.mark.slow),
    ],
)
def test_held_out_sets_outside_the_training_range(name: str, outside: Callable[[Term], bool]) -> None:
    keys = ("data.levels=[2]", "data.layout=direct", "data.max_binder_depth=3", f"data.lambda_held_out={name}")
    source = LambdaSource(load_config(overrides=keys).data, 128)
    found = list(distinct(tasks(*source.held_out, 0, 40)))
    assert len(found) > 20
    assert all(outside(parse_prefix(sample.term)) for sample in found)
    assert not any(outside(parse_prefix(sample.term)) for sample in tasks(source.settings, "train", 0, 40))
