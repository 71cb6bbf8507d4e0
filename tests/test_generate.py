"""`python -m moe_hub.generate`: the prompt is put as the training data wrote its prompts, unless it is to be raw."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moe_hub import inference
from moe_hub.config import load_config
from moe_hub.data.prepare import open_data
from moe_hub.data.tokenizer import byte_tokenizer, generation_template_of
from moe_hub.generate import main


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the model is given to go on from, instead of a model."""
    given: list[str] = []

    def generate(loaded: Any, prompt: str, *_: Any, **__: Any) -> Iterator[Any]:
        given.append(prompt)
        return iter(())

    monkeypatch.setattr(inference, "load_checkpoint", lambda folder: folder)
    monkeypatch.setattr(inference, "generate", generate)
    return given


@pytest.mark.parametrize(
    ("row", "options", "wanted"),
    [
        ({"question": "q{}", "answer": "a"}, (), "why\n"),
        ({"q": "q{}", "a": "b"}, ("data.prompt_template='Q: {q} A: '",), "Q: why A: "),
        ({"text": "some text {}"}, (), "why"),
    ],
)
@pytest.mark.parametrize("pretrained", [False, True])
def test_the_template_of_the_data_comes_with_the_checkpoint(
    row: dict[str, str], options: tuple[str, ...], wanted: str, pretrained: bool, read: list[str], tmp_path: Path
) -> None:
    path, folder = tmp_path / "rows.jsonl", tmp_path / "checkpoint"
    rows = [{name: value.replace("{}", str(number)) for name, value in row.items()} for number in range(30)]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    if pretrained:
        byte_tokenizer().save(tmp_path / "tokenizer")
        options = (*options, "data.tokenizer=pretrained", f"data.tokenizer_path={tmp_path / 'tokenizer'}")
    config = load_config(overrides=("data.source=file", f"data.path={path}", *options))
    open_data(config, cache_dir=tmp_path / "cache").tokenizer.save(folder)  # as a checkpoint is saved
    assert main([str(folder), "--prompt", "why"]) == 0
    assert main([str(folder), "--prompt", "why", "--raw-prompt"]) == 0
    assert read == [wanted, "why"]


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"prompt_template": 3}', "\xff"])
def test_a_checkpoint_without_a_template_takes_the_prompt_as_it_is(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "prompt_template.json").write_bytes(content.encode("latin-1"))
    assert generation_template_of(tmp_path) == "{prompt}"
