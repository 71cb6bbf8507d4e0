"""An exported model, as other programs load it: transformers' Auto classes and pipeline, and lm-evaluation-harness."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moe_hub.config import load_config
from moe_hub.export.__main__ import main
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.workbench.model_card import model_card

REPOSITORY = Path(__file__).parents[2]
SMALL = (
    "train.max_steps=6", "train.batch_size=2", "train.eval_every=3", "train.eval_batches=1", "train.checkpoint_every=6",
    "model.d_model=16", "model.num_layers=1", "model.num_experts=2", "data.num_train_samples=200",
    "data.num_eval_samples=20",
)  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, Path]:
    """A run of a few real steps, and its model folder."""
    folder = tmp_path_factory.mktemp("exported")
    flags = [part for override in SMALL for part in ("--set", override)]
    command = [
        sys.executable,
        "-m",
        "moe_hub.train",
        "--preset",
        "geometric_lambda",
        "--runs-dir",
        str(folder / "runs"),
    ]
    subprocess.run([*command, *flags], check=True, capture_output=True, timeout=300)
    assert main(["model", "latest", "--runs-dir", str(folder / "runs"), "--out", str(folder / "model")]) == 0
    return RunStore(folder / "runs").find("latest"), folder / "model"


@pytest.mark.training
def test_the_card_is_one_that_the_hub_reads(exported: tuple[RunDirectory, Path]) -> None:
    from huggingface_hub import ModelCard

    run, folder = exported
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "transformers"
    assert "geometric" in card.data.tags
    metrics = {result.metric_type: result.metric_value for result in card.data.eval_results}
    state = json.loads((run.checkpoints()[-1] / "trainer_state.json").read_text())
    assert metrics["loss"] == pytest.approx(state["metrics"]["val/loss"])
    assert "for 6 steps" in card.text
    assert not (folder / "optimizer.safetensors").exists()
    assert not (folder / "trainer_state.json").exists()


def test_the_card_names_files_and_no_folders(tmp_path: Path) -> None:
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "notes.jsonl").write_text('{"text": "a"}\n')
    for source, value in (("path", f"{folder}/notes.jsonl"), ("mixture", f"0.5 lambda; 0.5 file:{folder}/notes.jsonl")):
        kind = {"path": "file", "mixture": "mixture"}[source]
        config = load_config("basic_comparison", overrides=[f"data.source={kind}", f"data.{source}={value}"])
        run = RunStore(tmp_path / "runs").create(config)
        card = model_card(run, run.path / "checkpoints" / "step_00000000")
        assert "notes.jsonl" in card
        assert "secret" not in card


@pytest.mark.training
def test_transformers_loads_it_and_its_pipeline_writes(exported: tuple[RunDirectory, Path]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    import moe_hub  # noqa: F401
    from moe_hub.inference import complete, load_checkpoint

    run, folder = exported
    prompt = "<syn> ( λ a . a ) λ b . b ="
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    loaded = load_checkpoint(run.checkpoints()[-1])
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    assert torch.equal(model(input_ids=ids).logits, loaded.model(input_ids=ids).logits)
    write = pipeline("text-generation", model=str(folder), tokenizer=str(folder), device="cpu")
    written = write(prompt, max_new_tokens=8, do_sample=False, return_full_text=False)[0]["generated_text"]
    expected = complete(loaded, [prompt], 8)[0]
    marks = {"<red>", "<sem>", "<ped>", "<syn>"}
    assert [word for word in written.split() if word not in marks] == [
        word for word in expected.split() if word not in marks
    ]


@pytest.mark.training
@pytest.mark.slow
def test_the_harness_writes_what_the_hub_writes(exported: tuple[RunDirectory, Path], tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    from moe_hub.data.__main__ import main as data
    from moe_hub.inference import complete, load_checkpoint

    run, folder = exported
    flags = ["--split", "test", "--levels", "1,2", "--max-tokens", "100"]
    assert data(["lambda", "--num", "4", "--out", str(tmp_path / "lambda_test.jsonl"), *flags]) == 0
    command = [
        sys.executable, "-m", "moe_hub.harness", "run", "--model", "hf", "--model_args", f"pretrained={folder}",
        "--include_path", str(REPOSITORY / "configs" / "lm_eval"), "--tasks", "moe_hub_lambda", "--device", "cpu",
        "--batch_size", "1", "--log_samples", "--output_path", "out",
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "exact_match" in done.stdout
    (samples,) = tmp_path.glob("out/**/samples_*.jsonl")
    loaded = load_checkpoint(run.checkpoints()[-1])
    marks = {"<red>", "<sem>", "<ped>", "<syn>"}
    for line in samples.read_text().splitlines():
        sample = json.loads(line)
        ours = complete(loaded, [sample["doc"]["prompt"]], 48)[0]
        assert sample["resps"][0][0].split() == [word for word in ours.split() if word not in marks]
        assert sample["target"].split() == [word for word in sample["doc"]["answer"].split() if word not in marks]
