"""A dashboard between folders that it must not touch: secrets beside it, and links to them inside it."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).parent.parent / "web"))
sys.path.insert(0, str(Path(__file__).parent))

from attacks import MARK

from moe_hub import launch
from moe_hub.web import create_dashboard
from moe_hub.workbench.jobs import Jobs

_spec = importlib.util.spec_from_file_location("web_fixtures", Path(__file__).parent.parent / "web" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
web_fixtures: Any = importlib.util.module_from_spec(_spec)
sys.modules["web_fixtures"] = web_fixtures
_spec.loader.exec_module(web_fixtures)

STEP = "step_00000040"


@dataclass
class Place:
    """A dashboard with a run, an upload and a preset, and secrets outside its folders."""

    app: Any
    client: FlaskClient
    root: Path
    run_id: str
    started: list[tuple[str, ...]]

    @property
    def runs_dir(self) -> Path:
        return self.root / "inside" / "runs"

    @property
    def data_dir(self) -> Path:
        return self.root / "inside" / "data"

    @property
    def outside(self) -> Path:
        return self.root / "outside"

    @property
    def run(self) -> Path:
        return self.runs_dir / self.run_id

    def everything_outside(self) -> dict[str, bytes]:
        """All files that no request may change or show."""
        return {str(path): path.read_bytes() for path in self.outside.rglob("*") if path.is_file()}


def add_checkpoint(run: Path, step: str = STEP) -> Path:
    """A checkpoint that can be listed, compared and downloaded."""
    folder = run / "checkpoints" / step
    folder.mkdir(parents=True)
    save_file({"layers.0.w": np.ones((2, 2), np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "trainer_state.json").write_text('{"step": 40, "metrics": {"val/loss": 1.0}}')
    return folder


def fill_outside(outside: Path) -> None:
    """Files of every kind that a dashboard reads, each with the mark."""
    outside.mkdir(parents=True)
    (outside / "secret.txt").write_text(f"{MARK} root:x:0:0\n")
    (outside / "secret.jsonl").write_text(f'{{"text": "{MARK}"}}\n' * 20)
    (outside / "secret.yaml").write_text(f"name: {MARK}\n")
    run = outside / "secret-run"
    run.mkdir()
    (run / "config.yaml").write_text(f"name: {MARK}\n")
    (run / "metrics.jsonl").write_text('{"step": 1, "time": 1.0, "tokens": 1, "train/loss": 777.25}\n')
    (run / "log.txt").write_text(MARK)
    (run / "notes.json").write_text(f'{{"label": "{MARK}"}}')
    checkpoint = add_checkpoint(run)
    (checkpoint / "config.json").write_text(f'{{"secret": "{MARK}"}}')
    (checkpoint / "trainer_state.json").write_text('{"step": 40, "metrics": {"val/loss": 777.25}}')


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The dashboard; whatever would start a process is written down instead."""
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(launch, "start", lambda path, **_: started.append(("start", str(path))))
    monkeypatch.setattr(launch, "start_queue", lambda path: started.append(("queue", str(path))))
    monkeypatch.setattr(launch, "enqueue", lambda path, config: started.append(("queue", str(config))))
    monkeypatch.setattr(launch, "launch_run", lambda path, config: started.append(("launch", str(config))))
    monkeypatch.setattr(
        Jobs, "start", lambda self, module, words, stdin="", **_: started.append((module, *words)) or "0" * 16
    )
    monkeypatch.setenv("MOE_HUB_DATA", str(tmp_path / "inside" / "data"))
    fill_outside(tmp_path / "outside")
    runs_dir, data_dir = tmp_path / "inside" / "runs", tmp_path / "inside" / "data"
    app = create_dashboard(runs_dir=runs_dir, data_dir=data_dir)
    run = web_fixtures.write_run(runs_dir, 40)
    add_checkpoint(run.path)
    (data_dir / "uploads").mkdir(parents=True)
    (data_dir / "uploads" / "good.jsonl").write_text('{"text": "hello there"}\n' * 20)
    found = Place(app, app.server.test_client(), tmp_path, run.run_id, started)
    assert found.client.get("/").status_code == 200
    return found


chrome = web_fixtures.chrome
trained_runs = web_fixtures.trained_runs
