"""Nothing in a checkpoint is run: no pickle is read, and no code of its folder is imported, by any program."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers import ROOT
from test_texts import Bomb

pytestmark = [pytest.mark.training, pytest.mark.slow, pytest.mark.timeout(500)]
PICKLES = ("pytorch_model.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "tokenizer.pkl",
           "trainer_state.pkl", "adapter_model.bin")  # fmt: skip
CODE = "import os\nos.mkdir({marker!r})\nclass Evil: pass\n"


@pytest.fixture
def run(trained_runs: Path, tmp_path: Path) -> Path:
    """A copy of a real run, with its two checkpoints."""
    shutil.copytree(trained_runs, tmp_path / "runs")
    return next(path for path in (tmp_path / "runs").iterdir() if (path / "config.yaml").is_file())


def poison(folder: Path, marker: Path) -> None:
    """Pickles under every name that a library looks for, and code that the configs point to."""
    for name in PICKLES:
        (folder / name).write_bytes(pickle.dumps(Bomb(marker)))
    for name in ("evil.py", "modeling_evil.py", "tokenization_evil.py", "__init__.py", "sitecustomize.py", "setup.py"):
        (folder / name).write_text(CODE.format(marker=str(marker)))
    for name, keys in {
        "config.json": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"},
        "tokenizer_config.json": {"AutoTokenizer": ["tokenization_evil.Evil", "tokenization_evil.Evil"]},
        "generation_config.json": {},
    }.items():
        path = folder / name
        values = json.loads(path.read_text()) if path.exists() else {}
        values |= {"auto_map": keys, "custom_pipelines": {"x": {"impl": "evil.Evil"}}, "trust_remote_code": True}
        path.write_text(json.dumps(values))


def call(*words: str, stdin: str = "y\ny\ny\n") -> Any:
    """A program of the package, which a library may ask whether to trust code: it hears yes."""
    return subprocess.run(
        [sys.executable, "-m", *words], input=stdin, capture_output=True, text=True, cwd=ROOT, timeout=240, check=False
    )


def test_generating_evaluating_and_resuming_run_nothing_of_it(run: Path, tmp_path: Path) -> None:
    marker = tmp_path / "boom"
    checkpoints = sorted((run / "checkpoints").iterdir())
    for folder in checkpoints:
        poison(folder, marker)
    newest = str(checkpoints[-1])
    for words in (
        ("moe_hub.generate", newest, "--prompt", "-", "--max-new-tokens", "2"),
        ("moe_hub.evaluate", newest, "--json", "--num", "2"),
        ("moe_hub.train", "--runs-dir", str(run.parent), "--fork", f"{run.name}@40", "--set", "train.max_steps=42"),
    ):
        done = call(*words)
        assert not marker.exists(), words
        assert done.returncode == 0, (words, done.stderr[-2000:])


def test_a_pickle_in_place_of_the_weights_or_the_state_is_refused(run: Path, tmp_path: Path) -> None:
    from moe_hub.errors import MoeHubError
    from moe_hub.inference import load_checkpoint

    marker = tmp_path / "boom"
    folder = sorted((run / "checkpoints").iterdir())[-1]
    poison(folder, marker)
    weights = folder / "model.safetensors"
    kept = weights.read_bytes()
    for content in (pickle.dumps(Bomb(marker)), b"\x80\x05", b"PK\x03\x04" + b"\0" * 100, b"\xff" * 8 + b"{}", b""):
        weights.write_bytes(content)
        with pytest.raises(MoeHubError):
            load_checkpoint(folder)
        assert not marker.exists()
    weights.unlink()  # pytorch_model.bin is no substitute
    with pytest.raises(MoeHubError, match=r"model\.safetensors"):
        load_checkpoint(folder)
    weights.write_bytes(kept)
    for name in ("optimizer.safetensors", "trainer_state.json"):
        (folder / name).write_bytes(pickle.dumps(Bomb(marker)))
    done = call("moe_hub.train", "--runs-dir", str(run.parent), "--fork", f"{run.name}@{int(folder.name[5:])}",
                "--set", "train.max_steps=100")  # fmt: skip
    assert done.returncode in (1, 2), done.stderr[-1000:]
    assert "Traceback" not in done.stderr
    assert not marker.exists()
