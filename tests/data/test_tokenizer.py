"""Every tokenizer against `transformers.AutoTokenizer` loaded from the files that it saves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from moe_hub.data.tokenizer import (
    Tokenizer,
    byte_tokenizer,
    character_tokenizer,
    lambda_tokenizer,
    load_tokenizer,
    train_bpe,
)
from moe_hub.errors import DataError
from moe_hub.lambda_calculus.tasks import TaskSettings, make_sample
from moe_hub.lambda_calculus.vocabulary import TOKENS

CORPUS = "the cat sat on the mat\nλx.(x y) → naïve <eos> text, 42 times!\n" * 20
TEXTS = (
    "the cat sat",
    "",
    " leading and trailing ",
    "two\n\nlines\r\nand a tab\t.",
    "λx.(x (λy.x)) naïve \U0001f600 中文",
    "<eos> <pad> <bos> is only text here <unk>",
    "\x00\x01 control \u2028 separators \ufeff",
)
MAKERS: dict[str, Callable[[], Tokenizer]] = {
    "lambda": lambda_tokenizer,
    "bytes": byte_tokenizer,
    "characters": lambda: character_tokenizer(CORPUS),
    "bpe": lambda: train_bpe(iter([CORPUS]), 300),
}


@pytest.fixture(scope="module", params=MAKERS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    tokenizer = MAKERS[request.param]()
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer.save(folder)
    return tokenizer, AutoTokenizer.from_pretrained(folder)


def test_auto_tokenizer_behaves_the_same(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    sample = make_sample(TaskSettings(), "train", 0, 5)
    for text in (*TEXTS, f"{sample.prompt} {sample.answer}"):
        ids = ours.encode(text)
        assert theirs.encode(text) == ids
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids
        framed = [ours.bos_id, *ids, ours.eos_id, ours.pad_id]
        assert theirs.decode(framed) == ours.decode(framed)
    assert len(theirs) == ours.vocab_size
    assert (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id) == (ours.pad_id, ours.bos_id, ours.eos_id)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40))
def test_many_at_once_is_the_same(pair: tuple[Tokenizer, Any], text: str) -> None:
    ours, theirs = pair
    if ours.kind == "lambda":
        text = " ".join(text.split())
    together = ours.encode_many([text, CORPUS[:30]])
    assert together[0].tolist() == ours.encode(text) == theirs.encode(text)
    if ours.kind in ("bytes", "bpe"):
        assert ours.decode(together[0]) == text


def test_text_never_becomes_a_special_token(pair: tuple[Tokenizer, Any]) -> None:
    ours, _ = pair
    if ours.kind != "lambda":
        assert not {ours.eos_id, ours.bos_id, ours.pad_id} & set(ours.encode("<eos><bos> <pad>"))


def test_lambda_words_have_the_ids_of_their_places() -> None:
    tokenizer = lambda_tokenizer()
    assert tokenizer.encode(" ".join(TOKENS)) == list(range(len(TOKENS)))
    assert tokenizer.decode(range(len(TOKENS))) == " ".join(TOKENS)
    assert [TOKENS[i] for i in tokenizer.phase_marker_ids] == ["<syn>", "<red>", "<sem>", "<ped>"]
    assert tokenizer.encode("nonsense") == [TOKENS.index("<unk>")]


def test_bytes_are_their_numbers() -> None:
    tokenizer = byte_tokenizer()
    assert tokenizer.vocab_size == 260
    assert tokenizer.encode("Aé") == [4 + byte for byte in "Aé".encode()]
    assert sorted(tokenizer.backend.get_vocab().values()) == list(range(260))
    every = "".join(chr(point) for point in [*range(0x800), *range(0x800, 0xD800, 61), 0xFFFF, 0x10FFFF])
    assert tokenizer.decode(tokenizer.encode(every)) == every


def test_characters_are_sorted_and_unknown_ones_are_marked() -> None:
    tokenizer = character_tokenizer("hello")
    assert tokenizer.vocab_size == 4 + 4
    assert tokenizer.encode("hole") == [5, 7, 6, 4]
    assert tokenizer.encode("hi") == [5, 3]


def test_bpe_merges_what_is_frequent() -> None:
    tokenizer = train_bpe(iter(["banana " * 200]), 300)
    assert tokenizer.vocab_size <= 300
    assert len(tokenizer.encode(" banana")) == 1


@pytest.mark.parametrize("kind", MAKERS)
def test_loading_gives_the_same_tokenizer(kind: str, tmp_path: Path) -> None:
    tokenizer = MAKERS[kind]()
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path, kind)
    for text in TEXTS:
        assert again.encode(text) == tokenizer.encode(text)
        np.testing.assert_array_equal(again.encode_many([text])[0], tokenizer.encode(text))
    assert again.phase_marker_ids == tokenizer.phase_marker_ids


def test_pretrained_folder_is_used_and_copied_as_it_is(tmp_path: Path) -> None:
    MAKERS["bpe"]().save(tmp_path / "given")
    config = tmp_path / "given" / "tokenizer_config.json"
    config.write_text(
        config.read_text().replace('"pad_token": "<pad>",', "").replace('"split_special_tokens": true', '"x": 1')
    )
    tokenizer = load_tokenizer(tmp_path / "given")
    assert tokenizer.pad_id == tokenizer.eos_id
    tokenizer.save(tmp_path / "copy")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "copy")
    for text in TEXTS:  # here special tokens in a text are special, as this tokenizer says
        assert theirs.encode(text) == tokenizer.encode(text) == tokenizer.encode_many([text])[0].tolist()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no tokenizer.json"),
        ({"tokenizer.json": "{"}, "not a tokenizer file"),
        ({"tokenizer.json": "", "tokenizer_config.json": "["}, "not a tokenizer file"),
    ],
)
def test_bad_folder_is_explained(files: dict[str, str], words: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words):
        load_tokenizer(tmp_path)


def test_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    byte_tokenizer().save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(DataError, match="no eos_token or sep_token"):
        load_tokenizer(tmp_path)
