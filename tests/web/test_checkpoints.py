"""Checkpoints as the page lists, compares, sends and removes them, on small ones written here."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_run
from safetensors.numpy import save_file

from moe_hub.errors import RunError
from moe_hub.runs.store import RunDirectory
from moe_hub.workbench.checkpoints import compare, find_checkpoint, weight_distances


def write_checkpoint(run: RunDirectory, step: int, scale: float = 1.0, best: int | None = None) -> Path:
    folder = run.path / "checkpoints" / f"step_{step:08d}"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    tensors = {
        "layers.0.experts.w1": rng.normal(size=(4, 8)).astype(np.float32) * scale,
        "layers.1.experts.w1": rng.normal(size=(4, 8)).astype(np.float32),
        "layers.0.rotation.theta": np.full((2, 3), step / 100, np.float32),
        "embedding.weight": rng.normal(size=(5, 8)).astype(np.float32),
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "optimizer.safetensors").write_bytes(b"moments")
    state = {"step": step, "best_step": best, "metrics": {"val/loss": 2.0 - step / 100, "val/exact_match": 0.25}}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    return folder


@pytest.fixture
def run(page: Any) -> RunDirectory:
    run: RunDirectory = write_run(page.runs_dir, 10)
    write_checkpoint(run, 20, best=20)  # it was the best then
    write_checkpoint(run, 40, scale=1.5, best=40)
    return run


def test_the_list_tells_step_loss_size_and_which_is_best(page: Any, run: RunDirectory) -> None:
    rows = page.client.get("/api/checkpoints").get_json()
    assert [(row["step"], row["best"]) for row in rows] == [(40, True), (20, False)]
    assert rows[0]["loss"] == pytest.approx(1.6)
    assert rows[0]["exact_match"] == 0.25
    assert rows[0]["bytes"] > 500
    assert rows[0]["key"] == f"{run.run_id}@40"


def test_distance_of_the_weights_by_layer_against_a_direct_sum(run: RunDirectory) -> None:
    first, second = (run.path / "checkpoints" / f"step_{step:08d}" for step in (20, 40))
    found = weight_distances(first, second)
    # Scaling a tensor by 1.5 moves it by half its length; theta went from 0.2 to 0.4 in the same layer.
    before = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32).astype(np.float64)
    moved = np.square(0.5 * before).sum() + 6 * np.square(np.float32(0.4) - np.float64(np.float32(0.2)))
    length = np.square(before).sum() + 6 * np.square(np.float64(np.float32(0.2)))
    assert found["layers"]["layers.0"] == pytest.approx((moved / length) ** 0.5, rel=1e-5)
    assert found["layers"]["layers.1"] == 0
    assert found["missing"] == 0


def test_comparison_names_metrics_config_and_rotations(page: Any, run: RunDirectory) -> None:
    other = write_run(page.runs_dir, 10, name="other")
    write_checkpoint(other, 20)
    keys = f"{run.run_id}@40,{other.run_id}@20"
    found = page.client.get("/api/checkpoints/compare", query_string={"keys": keys}).get_json()
    assert found["config"] == [{"key": "name", "values": ["fake", "other"]}]
    assert {"name": "val/loss", "values": [1.6, 1.8]} in found["metrics"]
    assert found["rotations"][0]["layers.0.rotation.theta"][0] == pytest.approx([0.4] * 3)
    with pytest.raises(RunError, match="2 to 6"):
        compare([find_checkpoint(page.store, f"{run.run_id}@40")])


@pytest.mark.parametrize("whole", [False, True])
def test_a_download_is_a_whole_archive(page: Any, run: RunDirectory, whole: bool) -> None:
    answer = page.client.get(f"/api/checkpoints/{run.run_id}@40.zip{'?whole=1' if whole else ''}")
    archive = zipfile.ZipFile(io.BytesIO(answer.data))
    assert archive.testzip() is None
    names = {name.rpartition("/")[2] for name in archive.namelist()}
    assert names == {"model.safetensors", "config.json", "README.md"} | (
        {"optimizer.safetensors", "trainer_state.json"} if whole else set()
    )
    content = archive.read(f"{run.run_id}-step_00000040/model.safetensors")
    assert content == (run.path / "checkpoints" / "step_00000040" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("key", ["x", "../x@20", "@20", "{run}@", "{run}@21", "{run}@20/../..", "{run}@-20", "{run}"])
def test_only_checkpoints_that_are_there_can_be_named(page: Any, run: RunDirectory, key: str) -> None:
    key = key.format(run=run.run_id)
    assert page.client.post("/api/checkpoints", json={"action": "delete", "key": key}).status_code == 400
    with pytest.raises(RunError):
        find_checkpoint(page.store, key)
    assert len(run.checkpoints()) == 2


def test_a_link_is_no_checkpoint(page: Any, run: RunDirectory, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (run.path / "checkpoints" / "step_00000040").rename(outside)
    (run.path / "checkpoints" / "step_00000040").symlink_to(outside)
    assert [row["step"] for row in page.client.get("/api/checkpoints").get_json()] == [20]
    assert page.client.get(f"/api/checkpoints/{run.run_id}@40.zip").status_code == 400


def test_delete_takes_one_and_not_while_the_trainer_lives(page: Any, run: RunDirectory, start_fake: Any) -> None:
    assert page.client.post("/api/checkpoints", json={"action": "delete", "key": f"{run.run_id}@20"}).status_code == 200
    assert [path.name for path in run.checkpoints()] == ["step_00000040"]
    live = start_fake("--steps", "100000", "--delay", "0.01")
    write_checkpoint(live, 20)
    answer = page.client.post("/api/checkpoints", json={"action": "delete", "key": f"{live.run_id}@20"})
    assert answer.status_code == 400
    assert len(live.checkpoints()) == 1


def test_a_fork_holds_its_origin_and_needs_more_steps(page: Any, run: RunDirectory, monkeypatch: Any) -> None:
    started: list[Path] = []
    monkeypatch.setattr("moe_hub.web.routes.checkpoints.launch.start", lambda path, **_: started.append(path))
    body = {"action": "fork", "key": f"{run.run_id}@20"}
    assert "more steps" in page.client.post("/api/checkpoints", json={**body, "max_steps": 20}).get_json()["error"]
    answer = page.client.post("/api/checkpoints", json={**body, "max_steps": 900})
    forked = page.store.open(answer.get_json()["run"])
    assert started == [forked.path]
    assert forked.config().train.max_steps == 900
    assert [path.name for path in forked.checkpoints()] == ["step_00000020"]
    assert json.loads((forked.path / "origin.json").read_text()) == {"run_id": run.run_id, "step": 20}


def test_metrics_as_csv(page: Any, run: RunDirectory) -> None:
    lines = page.client.get(f"/api/runs/{run.run_id}/metrics.csv").data.decode().splitlines()
    header = lines[0].split(",")
    assert header[:3] == ["step", "time", "tokens"]
    assert "train/loss" in header
    assert len(lines) == 11


@pytest.mark.parametrize(
    "change",
    [{"temperature": -1}, {"temperature": "1"}, {"top_p": 0}, {"top_p": 2}, {"top_k": -1}, {"top_k": 1.5},
     {"max_new_tokens": 0}, {"seed": -1}, {"prompt": 5}, {"prompt": "x" * 100_001}, {"key": "../x@1"}],
)  # fmt: skip
def test_generation_checks_its_values_before_it_starts(page: Any, run: RunDirectory, change: Any) -> None:
    body = {"key": f"{run.run_id}@20", "prompt": "hi", **change}
    assert page.client.post("/api/generate", json=body).status_code == 400


def test_the_judge_over_http(page: Any) -> None:
    body = {"prompt": "<sem> @ lam 0 lam 0 =", "answer": "lam 0"}
    found = page.client.post("/api/judge", json=body).get_json()
    assert found["right"]
    assert found["expected"] == "lam 0"
    wrong = page.client.post("/api/judge", json={**body, "answer": "lam lam 1"}).get_json()
    assert not wrong["right"]
    assert page.client.post("/api/judge", json={"prompt": ") nonsense (", "answer": ""}).get_json()["unreadable"]


def test_a_held_out_task_of_a_run(page: Any, run: RunDirectory) -> None:
    key = f"{run.run_id}@20"
    first = page.client.get("/api/example", query_string={"key": key, "number": 0}).get_json()
    second = page.client.get("/api/example", query_string={"key": key, "number": 1}).get_json()
    assert first["prompt"] != second["prompt"]
    verdict = page.client.post("/api/judge", json=first).get_json()
    assert verdict["right"]
