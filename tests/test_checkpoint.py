"""Checkpoints: whole or absent, no pickle, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from moe_hub import checkpoint
from moe_hub.checkpoint import TrainerState, read_state, remove_old, restore, save_checkpoint
from moe_hub.config import Config, load_config
from moe_hub.errors import RunError


class Tokenizer:
    def save(self, folder: Path) -> None:
        (folder / "tokenizer.json").write_text("{}")


class Model(nn.Linear):
    def save_pretrained(self, folder: Path) -> None:
        from safetensors.torch import save_file

        save_file(self.state_dict(), folder / "model.safetensors")


def trained(seed: int) -> tuple[Model, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = Model(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
    return model, optimizer


@pytest.fixture
def config() -> Config:
    return load_config()


def test_restores_weights_moments_random_state_and_counters(tmp_path: Path, config: Config) -> None:
    model, optimizer = trained(0)
    state = TrainerState(step=3, tokens=12, best_loss=1.5, window={"loss/task": 2.0}, schedules={"a": [1, None]})
    folder = save_checkpoint(tmp_path, model, optimizer, Tokenizer(), config, state)
    following = torch.rand(5)
    other, other_optimizer = trained(1)
    assert restore(folder, other, other_optimizer) == state
    assert torch.equal(torch.rand(5), following)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        for key, value in optimizer.state[one].items():
            assert torch.equal(value, other_optimizer.state[two][key])


def test_nothing_is_pickled(tmp_path: Path, config: Config) -> None:
    folder = save_checkpoint(tmp_path, *trained(0), Tokenizer(), config, TrainerState(step=1))
    assert {file.suffix for file in folder.iterdir()} <= {".safetensors", ".json", ".yaml"}


def test_a_failed_write_leaves_the_old_checkpoint(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, optimizer = trained(0)
    good = save_checkpoint(tmp_path, model, optimizer, Tokenizer(), config, TrainerState(step=1, tokens=7))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, model, optimizer, Tokenizer(), config, TrainerState(step=1, tokens=8))
    assert read_state(good).tokens == 7
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]


def test_room_is_checked_before_anything_is_written(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1 << 20})()
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(OSError, match="1 MB are free"):
        save_checkpoint(tmp_path, *trained(0), Tokenizer(), config, TrainerState(step=1))
    assert not list(tmp_path.iterdir())


def test_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40, 50):
        (tmp_path / f"step_{step:08d}").mkdir()
    (tmp_path / ".step_00000060.abcd.tmp").mkdir()
    remove_old(tmp_path, keep=2, best_step=20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000020", "step_00000040", "step_00000050"]


def test_a_crash_while_one_is_removed_leaves_no_half_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (10, 20):
        (tmp_path / f"step_{step:08d}").mkdir()
        (tmp_path / f"step_{step:08d}" / "model.safetensors").touch()

    def crash(_folder: Path, **_options: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.shutil, "rmtree", crash)
        with pytest.raises(SystemExit):
            remove_old(tmp_path, keep=1, best_step=None)
    assert [path.name for path in tmp_path.glob("step_*")] == ["step_00000020"]
    remove_old(tmp_path, keep=1, best_step=None)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000020"]


def test_a_damaged_checkpoint_says_so(tmp_path: Path, config: Config) -> None:
    model, optimizer = trained(0)
    folder = save_checkpoint(tmp_path, model, optimizer, Tokenizer(), config, TrainerState(step=1))
    (folder / "optimizer.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(RunError, match="another checkpoint"):
        restore(folder, model, optimizer)
    (folder / "trainer_state.json").write_text("{")
    with pytest.raises(RunError, match=r"trainer_state\.json"):
        read_state(folder)
    fresh = save_checkpoint(tmp_path, model, optimizer, Tokenizer(), config, TrainerState(step=2))
    with pytest.raises(RunError, match="does not fit"):
        restore(fresh, nn.Linear(3, 2, bias=False), optimizer)
