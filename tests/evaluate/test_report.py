"""What a checkpoint answers: greedy decoding against the arg max given the true text, judged answers, the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from moe_hub.config import Config, load_config
from moe_hub.data.prepare import open_data
from moe_hub.errors import ConfigError
from moe_hub.evaluate.__main__ import main
from moe_hub.evaluate.report import evaluate_checkpoint, held_out_tasks, without_training_tasks
from moe_hub.evaluate.tasks import answer_tasks
from moe_hub.inference import load_checkpoint
from moe_hub.lambda_calculus.parser import parse_prefix
from moe_hub.lambda_calculus.terms import size
from moe_hub.runs.store import RunStore
from moe_hub.train import train


@pytest.fixture(scope="module")
def config() -> Config:
    """One step of small terms, learned far enough in seconds that some answers are right and some are not."""
    return load_config(
        overrides=[
            "model.architecture=dense",
            "train.mode=standard",
            "model.d_model=64",
            "model.max_seq_len=64",
            "train.max_steps=400",
            "train.batch_size=16",
            "train.learning_rate=3e-3",
            "train.device=cpu",
            "train.precision=fp32",
            "data.layout=direct",
            "data.levels=[0, 2]",
            "data.min_term_size=5",
            "data.max_term_size=9",
            "data.num_train_samples=3000",
            "data.num_eval_samples=60",
        ]
    )


@pytest.fixture(scope="module")
def checkpoint(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOE_HUB_DATA", str(folder / "data"))
        run_id = train(config, folder / "runs")
    return RunStore(folder / "runs").open(run_id).checkpoints()[-1]


@pytest.mark.training
def test_greedy_answers_are_as_right_as_the_arg_max_given_the_truth(checkpoint: Path, config: Config) -> None:
    loaded = load_checkpoint(checkpoint)
    samples = held_out_tasks(config, 60)
    right = 0
    for sample in samples:
        prompt = loaded.tokenizer(sample.prompt)["input_ids"]
        answer = [*loaded.tokenizer(sample.answer)["input_ids"][1:], loaded.model.config.eos_token_id]
        with torch.no_grad():
            guess = loaded.model(input_ids=torch.tensor([prompt + answer])).logits[0].argmax(-1).tolist()
        right += guess[len(prompt) - 1 : -1] == answer
    found = answer_tasks(loaded, samples, batch_size=16).report()["alpha_exact_match"]
    assert (found["hits"], found["trials"]) == (right, len(samples))
    assert 0 < right < len(samples)
    assert found["low"] < found["share"] < found["high"]


@pytest.mark.training
def test_the_saved_tokenizer_begins_as_training_did(checkpoint: Path, config: Config) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    task = open_data(config).task_batches(1)[0]
    first = task.batch.input_ids_BT[0].tolist()
    text = tokenizer.decode(first[1:12])
    assert tokenizer(text)["input_ids"] == first[:12]


@pytest.mark.training
def test_the_command_prints_a_table_or_json(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(checkpoint), "--num", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["perplexity"] == pytest.approx(np.exp(found["loss"]))
    assert sum(count["trials"] for count in found["tasks"]["by_level"].values()) == 20
    assert main([str(checkpoint), "--num", "20"]) == 0
    table = capsys.readouterr().out
    assert f"{found['tasks']['alpha_exact_match']['share']:.4f}" in table
    assert "95 % [" in table
    assert main([str(checkpoint), "--data", "nowhere.json"]) == 2
    assert main([str(checkpoint), "--set", "model.d_model=8"]) == 2
    assert "only data. keys" in capsys.readouterr().err


@pytest.mark.training
def test_other_words_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some other text\n" * 200)
    with pytest.raises(ConfigError, match="tokenizer"):
        evaluate_checkpoint(checkpoint, str(tmp_path / "text.txt"), ["data.tokenizer=characters"])


def test_held_out_terms_are_different_ones(config: Config) -> None:
    samples = held_out_tasks(config, 40)
    assert len({(sample.level, sample.term) for sample in samples}) == len(samples)


def test_held_out_tasks_lie_outside_where_asked(config: Config) -> None:
    for name in ("size", "steps"):
        data = config.data.model_copy(update={"levels": (3,), "max_term_size": 9})
        samples = held_out_tasks(config.model_copy(update={"data": data}), 3, name)
        assert len(samples) == 3
        assert name != "size" or all(size(parse_prefix(sample.term)) > 9 for sample in samples)
        assert name != "steps" or all(5 <= sample.steps <= 8 for sample in samples)
    with pytest.raises(ConfigError, match="level 6"):
        held_out_tasks(config, 3, "compositions")


@pytest.mark.training
def test_no_training_task_is_generated_to_judge_other_data(checkpoint: Path, config: Config, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOE_HUB_DATA", str(tmp_path))
        assert without_training_tasks(config).data.num_train_samples == 1
        found = evaluate_checkpoint(checkpoint, None, ["data.lambda_held_out=size"], num_tasks=8, ood=["size"])
        rows = [json.loads(file.read_text())["facts"]["rows"] for file in tmp_path.rglob("entry.json")]
    assert found["tasks"] == found["out of distribution: size"], "the same tasks, by config and by option"
    assert rows == [1 + 60]
    words = config.model_copy(update={"data": config.data.model_copy(update={"tokenizer": "bpe"})})
    assert without_training_tasks(words) is words
