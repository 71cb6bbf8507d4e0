"""What the trainer gets: batches that repeat, lose nothing, mix nothing up, and leave held-out data out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from moe_hub.config import Config, load_config
from moe_hub.data.batch import Batch
from moe_hub.data.prepare import TrainingData, open_data
from moe_hub.errors import DataError
from moe_hub.lambda_calculus.splits import split_of
from moe_hub.lambda_calculus.tasks import TaskSettings, make_sample
from moe_hub.models import build_model

SMALL_LAMBDA = ("data.num_train_samples=300", "data.num_eval_samples=60", "train.batch_size=8", "model.max_seq_len=128")


def opened(folder: Path, *overrides: str) -> TrainingData:
    return open_data(load_config(overrides=overrides), cache_dir=folder / "cache")


def from_rows(folder: Path, rows: list[dict[str, object]], *overrides: str) -> TrainingData:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return opened(folder, "data.source=file", f"data.path={path}", *overrides)


@pytest.fixture(scope="module")
def lambda_data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return opened(tmp_path_factory.mktemp("lambda"), *SMALL_LAMBDA)


def documents_of(batch: Batch) -> list[tuple[list[int], list[int]]]:
    """(ids, labels) of each document of a batch."""
    found = []
    for ids, labels, numbers in zip(batch.input_ids_BT, batch.labels_BT, batch.documents_BT, strict=True):
        for number in range(1, int(numbers.max()) + 1):
            inside = numbers == number
            found.append((ids[inside].tolist(), labels[inside].tolist()))
    return found


def epoch(data: TrainingData, number: int = 0, level: int | None = None) -> list[Batch]:
    first = number * data.batches_per_epoch
    return [data.train_batch(first + index, level) for index in range(data.batches_per_epoch)]


def equal(one: Batch, other: Batch) -> bool:
    def same(left: torch.Tensor | None, right: torch.Tensor | None) -> bool:
        return left is right if left is None or right is None else torch.equal(left, right)

    return all(same(getattr(one, name), getattr(other, name)) for name in vars(one))


def test_an_epoch_holds_every_training_sample_once(lambda_data: TrainingData) -> None:
    tokenizer = lambda_data.tokenizer
    settings = TaskSettings(max_tokens=126)
    samples = [make_sample(settings, "train", 0, index) for index in range(300)]
    expected = Counter(f"<bos> {s.prompt} {s.answer} <eos>" for s in samples)
    for number in (0, 1):
        texts = [tokenizer.decode(ids) for batch in epoch(lambda_data, number) for ids, _ in documents_of(batch)]
        assert Counter(texts) == expected
    assert sum(batch.tokens for batch in epoch(lambda_data)) == lambda_data.tokens_per_epoch


def test_only_the_answer_and_its_end_are_targets(lambda_data: TrainingData) -> None:
    tokenizer = lambda_data.tokenizer
    for ids, labels in documents_of(lambda_data.train_batch(3)):
        prompt, _, answer = tokenizer.decode(ids).partition(" = ")
        learned = [label for label in labels if label != -100]
        assert learned == ids[len(ids) - len(learned) :]
        assert tokenizer.decode(learned) == answer
        assert len(prompt.split()) + 1 + len(learned) == len(ids)


def test_padding_is_document_0_without_targets(lambda_data: TrainingData) -> None:
    for batch in (
        *epoch(lambda_data),
        *lambda_data.eval_batches(None),
        *(t.batch for t in lambda_data.task_batches(None)),
    ):
        padding = batch.documents_BT == 0
        assert (batch.input_ids_BT[padding] == lambda_data.tokenizer.pad_id).all()
        assert (batch.labels_BT[padding] == -100).all()
        assert (~padding).any(0).all(), "a batch is no wider than its fullest row"
        assert batch.input_ids_BT.shape[1] <= 128


def test_at_least_98_percent_are_real_tokens(tmp_path: Path) -> None:
    data = opened(tmp_path, "data.num_train_samples=3000", "data.num_eval_samples=10", "train.batch_size=16")
    batches = epoch(data)
    share = sum(batch.tokens for batch in batches) / sum(batch.input_ids_BT.numel() for batch in batches)
    assert share > 0.98
    assert data.facts["padding_share"] == pytest.approx(1 - share, abs=1e-4)


def test_a_batch_depends_on_seed_and_index_alone(tmp_path: Path) -> None:
    one, same = opened(tmp_path, *SMALL_LAMBDA), opened(tmp_path, *SMALL_LAMBDA)
    other = opened(tmp_path, *SMALL_LAMBDA, "seed=1")
    for index in (5, 0, 2 * one.batches_per_epoch + 1, 5):  # in any order, as after a resume
        assert equal(one.train_batch(index), same.train_batch(index))
    assert not equal(one.train_batch(5), other.train_batch(5))
    assert all(equal(a, b) for a, b in zip(one.eval_batches(None), other.eval_batches(None), strict=True))


def test_unlocked_level_uses_lower_levels_only(lambda_data: TrainingData) -> None:
    store = lambda_data.corpus.store
    for level in (1, 2):
        texts = {
            lambda_data.tokenizer.decode(ids)
            for batch in epoch(lambda_data, 0, level)
            for ids, _ in documents_of(batch)
        }
        allowed = {
            lambda_data.tokenizer.decode(store.ids[store.begins[d] : store.ends[d]])
            for d in np.flatnonzero((store.held_out == 0) & (store.level <= level))
        }
        assert texts <= allowed
        assert len(texts) > len(allowed) // 2
    assert equal(lambda_data.train_batch(0, 3), lambda_data.train_batch(0))
    assert equal(lambda_data.train_batch(0, 0), lambda_data.train_batch(0, 1)), "the lowest level there is"


def test_held_out_tasks_come_with_steps_and_levels(lambda_data: TrainingData) -> None:
    tasks = lambda_data.task_batches(None)
    found = set()
    for batch, steps, levels in tasks:
        assert (batch.documents_BT.max(1).values == 1).all()
        for row, k, level in zip(batch.input_ids_BT, steps, levels, strict=True):
            text = lambda_data.tokenizer.decode(row)
            found.add((text.split(" <eos>")[0], int(k), int(level)))
    settings = TaskSettings(max_tokens=126)
    samples = [make_sample(settings, "test", 0, index) for index in range(60)]
    assert sum(len(task.steps) for task in tasks) == len({(sample.level, sample.term) for sample in samples}), (
        "each term once a level"
    )
    samples = list({(sample.level, sample.term): sample for sample in reversed(samples)}.values())  # the first of each
    assert found == {(f"<bos> {s.prompt} {s.answer}", s.steps, s.level) for s in samples}
    assert all(split_of(s.term) == "test" for s in samples)
    assert len(lambda_data.task_batches(2)) == 2
    assert sum(b.tokens for b in lambda_data.eval_batches(None)) == lambda_data.facts["eval_tokens"]


def test_unigram_entropy_is_that_of_the_targets(lambda_data: TrainingData) -> None:
    targets = torch.cat([batch.labels_BT[batch.labels_BT != -100] for batch in epoch(lambda_data)])
    share = torch.bincount(targets).double() / len(targets)
    expected = float(-(share[share > 0] * share[share > 0].log()).sum())
    assert lambda_data.unigram_entropy == pytest.approx(expected, abs=1e-12)


@pytest.fixture(scope="module")
def text_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(rng.choice(list("abcdefgh \n"), 5000)))
    return path


def text_config(path: Path, *overrides: str) -> Config:
    return load_config(
        overrides=("data.source=file", f"data.path={path}", "model.max_seq_len=33", "train.batch_size=4", *overrides)
    )


def test_plain_text_is_cut_as_nanogpt_does(text_path: Path, tmp_path: Path) -> None:
    """Characters in sorted order, 90 % to train on, targets next characters, validation over all of the rest."""
    text = text_path.read_text()
    data = open_data(text_config(text_path), cache_dir=tmp_path)
    tokenizer, train, held_out = data.tokenizer, text[: int(len(text) * 0.9)], text[int(len(text) * 0.9) :]
    assert tokenizer.vocab_size == 4 + len(set(text))
    for batch in epoch(data):
        assert (batch.documents_BT == 1).all()
        assert torch.equal(batch.labels_BT[:, 1:], batch.input_ids_BT[:, 1:])
        for row in batch.input_ids_BT:
            assert tokenizer.decode(row) in train
    targets = [label for batch in data.eval_batches(None) for row in batch.labels_BT[:, 1:] for label in row.tolist()]
    assert Counter(t for t in targets if t != -100) == Counter(tokenizer.encode(held_out[1:]))


def test_each_epoch_takes_each_target_at_most_once_at_new_offsets(text_path: Path, tmp_path: Path) -> None:
    data = open_data(text_config(text_path, "data.tokenizer=bytes"), cache_dir=tmp_path)
    train = text_path.read_text()[:4500]
    offsets = []
    for number in range(3):
        starts = sorted(
            train.index(data.tokenizer.decode(row)) for batch in epoch(data, number) for row in batch.input_ids_BT
        )
        assert len(starts) * 32 >= 4500 - 2 * 33, "almost all of the text"
        assert set(np.diff(starts)) == {32}
        offsets.append(starts[0])
    assert len(set(offsets)) == 3


def test_texts_in_rows_are_cut_without_loss_and_never_mixed(tmp_path: Path) -> None:
    texts = [f"text {i} " + "word " * (i % 30) for i in range(100)]
    data = from_rows(tmp_path, [{"text": text} for text in texts], "model.max_seq_len=40", "train.batch_size=4")
    store, tokenizer = data.corpus.store, data.tokenizer
    targets: Counter[tuple[int, ...]] = Counter()
    for ids, labels in (document for batch in epoch(data) for document in documents_of(batch)):
        assert labels[0] == -100
        assert labels[1:] == ids[1:]
        targets.update([(ids[i - 1], ids[i]) for i in range(1, len(ids))])
    expected: Counter[tuple[int, ...]] = Counter()
    for document in np.flatnonzero(store.held_out == 0):
        ids = store.ids[store.begins[document] : store.ends[document]].tolist()
        assert (ids[0], ids[-1]) == (tokenizer.bos_id, tokenizer.eos_id)
        expected.update(pairwise(ids))
    assert targets == expected
    assert data.task_batches(None) == []


def test_duplicates_never_straddle_the_split(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"question": variant.format(i), "answer": str(i)}
        for i in range(30)
        for variant in ("What is {}?", "what is  {}?", "WHAT IS {}? ")
    ]
    data = from_rows(tmp_path, rows, "data.eval_fraction=0.2")
    store = data.corpus.store
    sides: dict[str, set[int]] = {}
    for begin, end, side in zip(store.begins, store.ends, store.held_out, strict=True):
        question = data.tokenizer.decode(store.ids[begin:end]).partition("\n")[0].removeprefix("<bos>")
        sides.setdefault(" ".join(question.lower().split()), set()).add(int(side))
    assert len(sides) == 30
    assert all(len(side) == 1 for side in sides.values())
    assert sum(store.held_out) == 18
    assert data.facts["leaking_rows"] == 0
    assert data.facts["random_split_leakage"] > 0.9


def test_equal_lambda_terms_are_one_group(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"question": f"(λ{x}.{x}) {y}", "answer": y} for x in "abcdef" for y in "uvw"]
    data = from_rows(tmp_path, rows, "data.eval_fraction=0.4")
    assert data.facts["distinct_questions"] == 18
    assert data.facts["distinct_questions_normalised"] == 3


def test_long_samples_are_dropped_and_counted_or_refused(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": f"p{i}", "completion": "x" * (50 if i % 10 == 0 else 5)} for i in range(60)
    ]
    data = from_rows(tmp_path, rows, "model.max_seq_len=32")
    assert data.facts["dropped_too_long"] == 6
    assert data.facts["train_documents"] + data.facts["eval_documents"] == 54
    with pytest.raises(DataError, match=r"6 of 60 samples .* set model.max_seq_len=55"):
        from_rows(tmp_path, rows, "model.max_seq_len=32", "data.too_long=refuse")
    with pytest.raises(DataError, match="60 of 60 samples"):
        from_rows(tmp_path, [{"prompt": f"p{i}", "completion": "x" * 50} for i in range(60)], "model.max_seq_len=32")
    assert from_rows(tmp_path, rows, "model.max_seq_len=55").facts["dropped_too_long"] == 0


def test_number_of_samples_is_limited(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"question": f"q{i}", "answer": "a"} for i in range(500)]
    data = from_rows(tmp_path, rows, "data.num_train_samples=90", "data.num_eval_samples=5")
    assert (data.facts["train_documents"], data.facts["eval_documents"]) == (90, 5)
    assert "only the first 100 rows are read" in data.facts["notes"][0]


def test_mixture_has_the_weights_it_was_given(tmp_path: Path, text_path: Path) -> None:
    mixture = ("data.source=mixture", f"data.mixture=0.25 lambda; 0.75 file:{text_path}")
    small = ("data.num_train_samples=200", "data.num_eval_samples=20", "model.max_seq_len=256", "train.batch_size=8")
    data = opened(tmp_path, *mixture, *small)
    assert data.tokenizer.kind == "bytes"
    rows = [row for number in range(3) for batch in epoch(data, number) for row in batch.input_ids_BT]
    is_task = [int(row[0]) == data.tokenizer.bos_id for row in rows]
    assert np.mean(is_task) == pytest.approx(0.25, abs=0.01)
    assert len(rows) == 3 * data.facts["rows_per_epoch"]
    assert data.task_batches(None)
    kinds = {int(row[0]) == data.tokenizer.bos_id for row in data.eval_batches(1)[0].input_ids_BT}
    assert kinds == {True, False}, "a limited evaluation sees all sources"


def test_what_one_source_of_a_mixture_holds_out_no_other_trains_on(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, numbers in zip(paths, (range(200), range(100, 400)), strict=True):
        path.write_text("".join(json.dumps({"question": f"what is {n}", "answer": str(n)}) + "\n" for n in numbers))
    mixture = f"data.mixture=1 file:{paths[0]}; 2 file:{paths[1]}"
    data = opened(tmp_path, "data.source=mixture", mixture)
    store = data.corpus.store
    sides: dict[int, set[str]] = {0: set(), 1: set()}
    for begin, end, side in zip(store.begins, store.ends, store.held_out, strict=True):
        sides[int(side)].add(data.tokenizer.decode(store.ids[begin:end]))
    assert len(sides[0] | sides[1]) == 400
    assert not sides[0] & sides[1]
    assert 40 <= len(sides[1]) <= 60
    only = sorted(int(text.partition("is ")[2].partition("\n")[0]) for text in sides[1])[:2]
    paths[1].write_text("".join(json.dumps({"question": f"what is {n}", "answer": str(n)}) + "\n" for n in only))
    with pytest.raises(DataError, match="all its rows are held out"):
        opened(tmp_path, "data.source=mixture", mixture)


def test_second_opening_hits_the_cache_and_a_changed_byte_misses(text_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.txt"
    path.write_text(text_path.read_text())
    first = open_data(text_config(path), cache_dir=tmp_path / "cache")
    again = open_data(text_config(path), cache_dir=tmp_path / "cache")
    assert (first.facts["cache_hit"], first.facts["cache_reason"]) == (False, "not prepared before")
    assert again.facts["cache_hit"]
    assert equal(first.train_batch(7), again.train_batch(7))
    path.write_text("X" + text_path.read_text()[1:])
    changed = open_data(text_config(path), cache_dir=tmp_path / "cache")
    assert not changed.facts["cache_hit"]
    assert changed.facts["cache_reason"].startswith("the content changed: sha256 ")
    other = open_data(text_config(path, "data.tokenizer=bytes"), cache_dir=tmp_path / "cache")
    assert other.facts["cache_reason"] == "tokenizer changed from characters to bytes"


def test_bpe_is_learned_from_the_training_part_alone(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("apple " * 3000 + "zebra " * 300)
    data = opened(
        tmp_path,
        "data.source=file",
        f"data.path={path}",
        "data.tokenizer=bpe",
        "data.bpe_vocab_size=280",
        "model.max_seq_len=16",
    )
    assert data.tokenizer.vocab_size <= 280
    vocabulary = data.tokenizer.backend.get_vocab()
    assert "Ġapple" in vocabulary
    assert "Ġzebra" not in vocabulary
    ids = data.corpus.store.ids
    assert data.tokenizer.decode(ids).startswith("apple apple")


def test_progress_can_cancel_and_leaves_nothing(tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []

    def progress(what: str, share: float) -> None:
        seen.append((what, share))
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_data(load_config(overrides=("data.num_train_samples=2000",)), cache_dir=tmp_path, progress=progress)
    assert seen[0] == ("Generating lambda tasks", 0.0)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


def test_rows_are_the_same_in_another_process_which_needs_no_torch(lambda_data: TrainingData) -> None:
    folder = lambda_data.corpus.facts["cache_key"]
    code = (
        "import sys; from pathlib import Path; from moe_hub.config import load_config; "
        "from moe_hub.data.corpus import open_corpus; from moe_hub.data.shape import shape_of; "
        f"config = load_config(overrides={SMALL_LAMBDA!r}); "
        "corpus = open_corpus(config, cache_dir=Path(sys.argv[1])); "
        "print(corpus.facts['cache_hit'], 'torch' in sys.modules, shape_of(config, corpus).batches.rows(11))"
    )
    root = next(path for path in Path(lambda_data.corpus.store.ids.filename).parents if (path / folder).is_dir())
    command = [sys.executable, "-c", code, str(root)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"True False {lambda_data.shape.batches.rows(11)}"


def test_no_document_of_a_packed_row_sees_another(tmp_path: Path) -> None:
    """Changing one document changes no logit of the others in its row, bit for bit."""
    rows: list[dict[str, object]] = [{"question": f"q{i}", "answer": f"a{i}"} for i in range(40)]
    small = ("model.max_seq_len=64", "model.d_model=32", "model.num_layers=2", "train.batch_size=2")
    data = from_rows(tmp_path, rows, *small)
    model = build_model(data.config, vocab_size=data.tokenizer.vocab_size).eval()
    batch = data.train_batch(0)
    assert batch.documents_BT.max() > 3
    changed = torch.where(batch.documents_BT == 2, (batch.input_ids_BT + 7) % 200, batch.input_ids_BT)
    with torch.no_grad():
        before, after = (
            model(input_ids=ids, documents=batch.documents_BT).logits for ids in (batch.input_ids_BT, changed)
        )
    others = (batch.documents_BT > 0) & (batch.documents_BT != 2)
    assert torch.equal(before[others], after[others])
    assert not torch.equal(before[~others], after[~others])
