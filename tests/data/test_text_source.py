"""Plain text in pieces gives the tokens of the whole text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_hub.config import load_config
from moe_hub.data import file_kind, text_source
from moe_hub.data.corpus import open_corpus
from moe_hub.data.text_source import last_line_begin, split_at_lines
from moe_hub.data.tokenizer import train_bpe

LINES = st.lists(st.sampled_from(["word", "two words", " indented", "", "\ttab", "end.", "λ"]), min_size=1, max_size=60)


@settings(max_examples=80, deadline=None)
@given(lines=LINES, size=st.integers(1, 40))
def test_pieces_have_the_tokens_of_the_whole(lines: list[str], size: int) -> None:
    text = "\n".join(lines)
    tokenizer = train_bpe(iter(["word words\n\n indented\n\ttab end.\n \n" * 20]), 300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_source, "PIECE", size)
        pieces = split_at_lines(text)
    assert "".join(pieces) == text
    assert [i for ids in tokenizer.encode_many(pieces) for i in ids.tolist()] == tokenizer.encode(text)


def test_last_line_begin() -> None:
    assert last_line_begin("one\ntwo\n") == 4
    assert last_line_begin("one\ntwo\n  \n\nthree\n four") == 4
    assert last_line_begin("one\n\n") == 0
    assert last_line_begin("one") == last_line_begin("") == last_line_begin("\n") == 0


def test_chunks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"line {i}\n\n  indented {i}\n" for i in range(200)))
    stores = []
    for chunk in (1 << 20, 301):
        monkeypatch.setattr(file_kind, "CHUNK", chunk)
        overrides = ("data.source=file", f"data.path={path}", "data.tokenizer=bpe", "data.bpe_vocab_size=270")
        stores.append(open_corpus(load_config(overrides=overrides), cache_dir=tmp_path / str(chunk)).store)
    np.testing.assert_array_equal(stores[0].ids, stores[1].ids)
    np.testing.assert_array_equal(stores[0].ends, stores[1].ends)
