"""Several checkpoints on one evaluation set: the numbers of the trainer's own evaluation, and what cannot compare."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from moe_hub.config import load_config
from moe_hub.data.prepare import open_data
from moe_hub.errors import ConfigError, RunError
from moe_hub.evaluate.__main__ import main
from moe_hub.evaluate.data_of import config_of_data
from moe_hub.evaluate.same_data import _ratio, compare_on, summary
from moe_hub.inference import load_checkpoint
from moe_hub.runs.store import RunStore
from moe_hub.train import train
from moe_hub.train.evaluation import evaluate_exact_match, evaluate_loss

SMALL = [
    "model.architecture=dense", "train.mode=standard", "model.d_model=32", "model.num_layers=1", "model.max_seq_len=96",
    "train.batch_size=8", "train.learning_rate=3e-3", "train.device=cpu", "train.precision=fp32", "data.layout=direct",
    "data.levels=[1, 2]", "data.min_term_size=5", "data.max_term_size=9", "data.num_train_samples=300",
    "data.num_eval_samples=40", "train.eval_every=1000", "train.checkpoint_every=1000",
]  # fmt: skip


class Trained:
    """Checkpoints of a words model at two lengths of training, of a bytes model and of a characters model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        text = folder / "plain.txt"
        text.write_text("the quick brown fox jumps over the lazy dog\n" * 60)
        file = ["data.source=file", f"data.path={text}"]
        self.first = self._train(["train.max_steps=60"])
        self.second = self._train(["train.max_steps=6"])
        self.bytes = self._train(["train.max_steps=6", "data.tokenizer=bytes"])
        self.letters = self._train(["train.max_steps=4", "data.tokenizer=characters", *file])

    def _train(self, overrides: list[str]) -> Path:
        run_id = train(load_config(overrides=[*SMALL, *overrides]), self.folder / "runs")
        return RunStore(self.folder / "runs").open(run_id).checkpoints()[-1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("same-data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOE_HUB_DATA", str(folder / "data"))
        return Trained(folder)


@pytest.fixture(autouse=True)
def _data(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "trained" in request.fixturenames:
        monkeypatch.setenv("MOE_HUB_DATA", str(request.getfixturevalue("trained").folder / "data"))


@pytest.mark.training
def test_equal_vocabularies_score_as_the_trainer_would_on_the_data_of_one(trained: Trained) -> None:
    reference = config_of_data(trained.second)
    lines = summary(list(compare_on([trained.first, trained.second], reference)))
    data = open_data(reference)
    for line, folder in zip(lines, (trained.first, trained.second), strict=True):
        model = load_checkpoint(folder).model
        expected = evaluate_loss(model, data.eval_batches(None)) | evaluate_exact_match(model, data.task_batches(None))
        assert line["loss"][0] == pytest.approx(expected["val/loss"], abs=1e-5)
        assert line["perplexity"][0] == pytest.approx(expected["val/perplexity"], rel=1e-4)
        assert line["token_accuracy"] == pytest.approx(expected["val/token_accuracy"])
        assert line["exact_match"][0] == expected["val/exact_match"]
        assert line["loss"][1] < line["loss"][0] < line["loss"][2]
        assert line["samples"] == sum(len(tasks.steps) for tasks in data.task_batches(None)) > 10
    assert lines[0]["tokens"] == lines[1]["tokens"]
    assert lines[0]["loss_minus_first"] is None
    assert lines[1]["loss_minus_first"][0] == pytest.approx(lines[1]["loss"][0] - lines[0]["loss"][0])
    assert lines[1]["loss_minus_first"][1] > 0  # six steps are less than sixty


@pytest.mark.training
def test_scores_are_kept_beside_the_checkpoints_and_made_anew_for_other_weights(trained: Trained) -> None:
    reference = config_of_data(trained.first)
    before = list(compare_on([trained.first], reference))
    again = list(compare_on([trained.first], reference))
    assert again[0]["cached"]
    assert again[0]["rows"] == before[0]["rows"]
    kept = list((trained.first.parent.parent / "evaluations").glob("step_00000060-*.json"))
    assert kept
    weights = trained.first / "model.safetensors"
    weights.write_bytes(weights.read_bytes())  # another time of writing: it may be another model
    assert not next(iter(compare_on([trained.first], reference)))["cached"]


@pytest.mark.training
def test_kept_scores_need_no_torch(trained: Trained) -> None:
    list(compare_on([trained.first], config_of_data(trained.first)))
    code = (
        "import sys; from moe_hub.evaluate.__main__ import main; "
        "code = main(sys.argv[1:]); sys.exit(code or 'torch' in sys.modules)"
    )
    arguments = [str(trained.first), "--data-of", str(trained.first.parent.parent), "--json"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["checkpoints"][0]["cached"]


@pytest.mark.training
def test_other_tokens_compare_in_bits_per_byte(trained: Trained) -> None:
    reference = config_of_data(trained.first)
    results = list(compare_on([trained.first, trained.bytes], reference))
    words, letters = summary(results)
    assert words["loss"] is None
    assert words["perplexity"] is None
    assert letters["loss_minus_first"] is None
    assert letters["samples"] == words["samples"] > 0
    rows = results[1]["rows"]
    ends = letters["samples"]  # the end token of each answer is a target without a byte
    assert letters["tokens"] == letters["bytes"] + ends
    assert letters["bits_per_byte"][0] == pytest.approx(sum(rows["nll"]) / math.log(2) / (letters["tokens"] - ends))
    assert words["bytes"] == letters["bytes"]
    assert words["bits_per_byte"][0] < letters["bits_per_byte"][0]


@pytest.mark.training
def test_data_that_a_tokenizer_does_not_know_is_refused(trained: Trained) -> None:
    with pytest.raises(ConfigError, match="does not know"):
        list(compare_on([trained.first, trained.letters], config_of_data(trained.first)))
    with pytest.raises(RunError, match="take a folder like"):
        list(compare_on([trained.folder], config_of_data(trained.first)))


@pytest.mark.training
def test_the_command_compares_on_the_data_of_a_run(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    pair = [str(trained.first), str(trained.second)]
    assert main([*pair, "--data-of", str(trained.second.parent.parent), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [line["checkpoint"] for line in found["checkpoints"]] == pair
    assert main(pair) == 0
    table = capsys.readouterr().out
    assert f"loss                    {found['checkpoints'][1]['loss'][0]:.4f}" in table
    assert "loss_minus_first" in table
    assert main([*pair, "--data-of", str(trained.folder)]) == 2


def test_the_interval_of_a_ratio_holds_the_truth_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        tokens = rng.integers(20, 100, 60).astype(float)
        nll = tokens * 1.5 + rng.normal(0, 8, 60)
        _, low, high = _ratio(nll, tokens)
        assert low is not None
        assert high is not None
        held += low < 1.5 < high
    assert 365 <= held <= 395


def test_one_row_has_no_interval() -> None:
    assert _ratio(np.array([3.0]), np.array([2.0])) == (1.5, None, None)
