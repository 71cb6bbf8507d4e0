"""Generation from a checkpoint: greedy and sampled, streamed, with shares; and the generate command."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch

from moe_hub.architectures import ARCHITECTURES
from moe_hub.config import load_config
from moe_hub.data.tokenizer import byte_tokenizer, lambda_tokenizer
from moe_hub.errors import RunError
from moe_hub.generate import main
from moe_hub.inference import Loaded, Sampling, complete, generate, load_checkpoint, prompt_ids
from moe_hub.models import build_model

PROMPT = "<sem> @ lam 0 lam 0 ="


def saved(folder: Path, architecture: str = "hgnn", *, tokenizer: str = "lambda") -> Path:
    """A checkpoint whose weights are large enough that its text is not one token again and again."""
    overrides = [
        f"model.architecture={architecture}", "train.mode=standard", "model.d_model=16", "model.num_heads=2",
        "model.num_experts=3", "model.max_seq_len=48",
    ]  # fmt: skip
    words = lambda_tokenizer() if tokenizer == "lambda" else byte_tokenizer()
    model = build_model(
        load_config(overrides=overrides),
        vocab_size=words.vocab_size,
        phase_marker_ids=words.phase_marker_ids,
        bos_token_id=words.bos_id,
        eos_token_id=words.eos_id,
        pad_token_id=words.pad_id,
    )
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    words.save(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> Loaded:
    return load_checkpoint(checkpoint)


def greedy_by_hand(loaded: Loaded, count: int) -> list[int]:
    """Arg max of a full forward pass for every token: no cache, no library."""
    ids = prompt_ids(loaded, PROMPT)
    with torch.no_grad():
        for _ in range(count):
            following = loaded.model(input_ids=ids).logits[0, -1].argmax()
            ids = torch.cat((ids, following.view(1, 1)), dim=1)
    return [int(token) for token in ids[0, -count:]]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_text_is_the_arg_max_of_full_passes(architecture: str, tmp_path: Path) -> None:
    found = load_checkpoint(saved(tmp_path, architecture))
    tokens = [piece.token_id for piece in generate(found, PROMPT, Sampling(max_new_tokens=12))]
    assert tokens == greedy_by_hand(found, 12)[: len(tokens)]
    assert len(tokens) == 12 or tokens[-1] == found.model.config.eos_token_id


def test_shares_sum_to_one_in_each_layer(loaded: Loaded) -> None:
    pieces = list(generate(loaded, PROMPT, Sampling(max_new_tokens=4)))
    for piece in pieces:
        assert [len(layer) for layer in piece.shares] == [3, 3]
        assert [sum(layer) for layer in piece.shares] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert pieces[0].shares != pieces[1].shares


def test_the_seed_decides_and_the_filters_filter(loaded: Loaded) -> None:
    def ids(**changes: float) -> list[int]:
        sampling = Sampling(**{"max_new_tokens": 20, "temperature": 1.5, **changes})  # type: ignore[arg-type]
        return [piece.token_id for piece in generate(loaded, PROMPT, sampling)]

    assert ids(seed=1) == ids(seed=1)
    assert ids(seed=1) != ids(seed=2)
    only = ids(seed=1, top_k=1)
    assert only == greedy_by_hand(loaded, 20)[: len(only)]
    nucleus = ids(seed=1, top_p=1e-6)
    assert nucleus == greedy_by_hand(loaded, 20)[: len(nucleus)]


def test_stop_ends_the_text_and_leaving_early_ends_the_work(loaded: Loaded) -> None:
    asked = itertools.count(1)
    pieces = list(generate(loaded, PROMPT, Sampling(max_new_tokens=30, temperature=1.0), stop=lambda: next(asked) >= 3))
    assert len(pieces) == 3
    first = next(iter(generate(loaded, PROMPT, Sampling(max_new_tokens=30))))
    assert first.text


def test_batched_completion_equals_one_by_one(loaded: Loaded) -> None:
    prompts = [PROMPT, "<sem> @ lam 1 lam 0 =", "<red> @ lam 0 lam 0 ="]
    together = complete(loaded, prompts, 10)
    assert together == [complete(loaded, [prompt], 10)[0] for prompt in prompts]


def test_text_of_many_bytes_is_whole(tmp_path: Path) -> None:
    found = load_checkpoint(saved(tmp_path, tokenizer="bytes"))
    pieces = list(generate(found, "é", Sampling(max_new_tokens=20, temperature=2.0, seed=4)))
    whole = found.tokenizer.decode([piece.token_id for piece in pieces], skip_special_tokens=False)
    text = "".join(piece.text for piece in pieces)
    assert whole.startswith(text)
    assert set(whole[len(text) :]) <= {"\ufffd"}  # at most a character that was never finished


def test_unusable_prompts_and_folders_say_so(loaded: Loaded, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="at most 47 fit"):
        prompt_ids(loaded, "0 " * 60)
    with pytest.raises(RunError, match="100,000"):
        prompt_ids(loaded, "0" * 100_001)
    with pytest.raises(RunError, match="must hold"):
        load_checkpoint(tmp_path)


def test_the_command_streams_text_or_json(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(checkpoint), "--prompt", PROMPT, "--max-new-tokens", "5"]) == 0
    text = capsys.readouterr().out
    assert main([str(checkpoint), "--prompt", PROMPT, "--max-new-tokens", "5", "--json-lines"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "".join(event["text"] for event in events) == text.rstrip("\n")
    assert len(events[0]["shares"][0]) == 3
    assert main([str(checkpoint / "nothing"), "--prompt", "x"]) == 2
    assert "must hold" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([str(checkpoint), "--prompt", "x", "--top-p", "2"])
