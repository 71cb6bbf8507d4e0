"""What the form shows: close to the truth before the data is prepared, the truth after, quick, and without torch."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from moe_hub.config import load_config
from moe_hub.data.facts import estimate, vocab_size
from moe_hub.data.prepare import open_data
from moe_hub.data.tokenizer import byte_tokenizer
from moe_hub.errors import DataError


def sources(folder: Path) -> dict[str, tuple[str, ...]]:
    text, rows, table = folder / "a.txt", folder / "rows.jsonl", folder / "rows.csv"
    text.write_text("Some text, line by line.\n" * 800)
    lines = [{"question": f"What is {i}?", "answer": "x" * (i % 40 + 1), "unused": "u" * 300} for i in range(700)]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    table.write_text("text\n" + "".join(f"row number {i} of this table\n" for i in range(900)))
    return {
        "lambda": ("data.num_train_samples=800", "data.num_eval_samples=20"),
        "text": ("data.source=file", f"data.path={text}"),
        "rows": ("data.source=file", f"data.path={rows}"),
        "table": ("data.source=file", f"data.path={table}", "data.tokenizer=characters"),
        "mixture": (
            "data.source=mixture",
            f"data.mixture=1 lambda; 1 file:{rows}",
            "data.num_train_samples=600",
            "data.num_eval_samples=20",
            "model.max_seq_len=320",
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lambda", "text", "rows", "table", "mixture"])
def test_estimate_is_close_and_then_exact(name: str, tmp_path: Path) -> None:
    config = load_config(overrides=(*sources(tmp_path)[name], "train.batch_size=8"))
    cache = tmp_path / "cache"
    before = estimate(config, cache_dir=cache)
    data = open_data(config, cache_dir=cache)
    after = estimate(config, cache_dir=cache)
    assert not before.exact
    assert "estimated" in before.note
    assert before.vocab_size == vocab_size(config.data) == data.tokenizer.vocab_size
    assert before.tokens_per_epoch == pytest.approx(data.tokens_per_epoch, rel=0.15)
    assert before.batches_per_epoch == pytest.approx(data.batches_per_epoch, rel=0.15, abs=2)
    assert after.exact
    assert (after.tokens_per_epoch, after.batches_per_epoch) == (data.tokens_per_epoch, data.batches_per_epoch)


def test_estimate_follows_every_change(tmp_path: Path) -> None:
    base = sources(tmp_path)["rows"]
    few, many = (
        estimate(load_config(overrides=(*base, f"train.batch_size={size}")), cache_dir=tmp_path / "c")
        for size in (4, 16)
    )
    assert few.batches_per_epoch == pytest.approx(4 * many.batches_per_epoch, abs=3)
    capped = estimate(load_config(overrides=(*base, "data.num_train_samples=70")), cache_dir=tmp_path / "c")
    assert capped.tokens_per_epoch == pytest.approx(many.tokens_per_epoch / 9, rel=0.05)


def test_vocabulary_of_each_tokenizer(tmp_path: Path) -> None:
    byte_tokenizer().save(tmp_path / "tokenizer")
    base = sources(tmp_path)["text"]
    expected = {
        ("data.tokenizer=bytes",): 260,
        ("data.tokenizer=bpe", "data.bpe_vocab_size=777"): 777,
        ("data.tokenizer=pretrained", f"data.tokenizer_path={tmp_path / 'tokenizer'}"): 260,
        ("data.tokenizer=characters",): 4 + len(set("Some text, line by line.\n")),
    }
    for options, size in expected.items():
        assert vocab_size(load_config(overrides=(*base, *options)).data) == size


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("data.source=file", "data.path=/nowhere/a.txt"), "no such file"),
        (("data.tokenizer=pretrained", "data.tokenizer_path=/nowhere/tokenizer"), "no such folder"),
    ],
)
def test_unusable_data_is_a_data_error(overrides: tuple[str, ...], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        estimate(load_config(overrides=overrides), cache_dir=tmp_path)


def test_hub_is_not_asked_by_a_form(tmp_path: Path) -> None:
    found = estimate(load_config(overrides=("data.source=hub", "data.name=owner/name")), cache_dir=tmp_path)
    assert (found.vocab_size, found.tokens_per_epoch, found.exact) == (260, 0, False)


@pytest.mark.slow
def test_facts_import_neither_torch_nor_datasets_and_are_quick() -> None:
    code = (
        "import sys, time; from moe_hub.config import load_config; from moe_hub.data import facts, inspection, corpus; "
        "facts.estimate(load_config(preset='geometric_lambda')); began = time.process_time(); "
        "facts.estimate(load_config(preset='geometric_lambda')); "
        "print({'torch', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules), time.process_time() - began < 0.2)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set() True"


@pytest.mark.slow
def test_second_opening_is_quick(tmp_path: Path, cpu_s: Callable[..., float]) -> None:
    """The contract: below 0.3 s from the cache. Process time, so that a busy machine does not matter."""
    config = load_config(overrides=("data.num_train_samples=800", "data.num_eval_samples=50"))
    open_data(config, cache_dir=tmp_path)

    def open_again() -> None:
        data = open_data(config, cache_dir=tmp_path)
        data.train_batch(0)
        assert data.facts["cache_hit"]

    assert cpu_s(open_again, repeats=3, clock=time.process_time) < 0.3
