"""A whole run in this process: directory, rows, checkpoints, exact resume, fork, failure."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from moe_hub.architectures import ARCHITECTURES
from moe_hub.checkpoint import read_state
from moe_hub.config import Config
from moe_hub.data.batch import Batch
from moe_hub.errors import RunError
from moe_hub.runs import control
from moe_hub.runs.fork import fork
from moe_hub.runs.metrics import find_metric
from moe_hub.runs.reader import MetricReader
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.train import train
from moe_hub.train.controller import Controller
from moe_hub.train.failure import NonFiniteLoss
from moe_hub.train.loop import Trainer
from moe_hub.train.record import RunRecord
from moe_hub.train.session import _prepare, run_training

pytestmark = pytest.mark.training

Small = Callable[..., Config]


def rows(run: RunDirectory) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def final_weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    return load_file(run.checkpoints()[-1] / "model.safetensors")


def assert_same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if one[name].numpy().tobytes() != other[name].numpy().tobytes()]  # NaN is NaN
    assert not different


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, *, kill: bool = False) -> None:
    """Makes the next training stop (or die without a word) once `step` steps are done."""
    original = Trainer._step

    def limited(self: Trainer) -> None:
        if self.state.step >= step:
            if kill:
                raise SystemExit("killed")
            self.controller.stop_reason = "stopped on request"
            return
        original(self)

    monkeypatch.setattr(Trainer, "_step", limited)


def test_a_run_leaves_everything_in_its_directory(small_config: Small, tmp_path: Path) -> None:
    run = RunStore(tmp_path / "runs").open(train(small_config(), tmp_path / "runs"))
    status = run.status()
    assert status is not None
    assert (status.state, status.step, status.max_steps) == ("finished", 12, 12)
    assert status.parameters["total"] > 0
    assert [folder.name for folder in run.checkpoints()] == ["step_00000006", "step_00000012"]
    found = rows(run)
    assert [row["step"] for row in found if "train/loss" in row] == [3, 6, 9, 12]
    names = {name for row in found for name in row} - {"step", "time", "tokens", "attempt"}
    assert not [name for name in names if find_metric(name) is None]
    wanted = {
        "val/loss", "val/exact_match", "loss/task", "loss/orthogonality", "loss/rotation_efficiency",
        "loss/specialization", "loss/total", "expert/load", "rotation/theta_rad", "optim/lr/rotation",
        "optim/lr/expert", "optim/lr/base", "optim/grad_norm/rotation", "time/tokens_per_s", "event/checkpoint",
    }  # fmt: skip
    assert wanted <= names
    theta = next(row["rotation/theta_rad"] for row in reversed(found) if "rotation/theta_rad" in row)
    assert torch.tensor(theta).shape == (2, 3, 4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_a_resumed_run_equals_the_uninterrupted_one(
    architecture: str, kill: bool, small_config: Small, tmp_path: Path
) -> None:
    config = small_config(architecture, "train.max_steps=8", "train.checkpoint_every=3", "train.eval_every=4")
    whole = RunStore(tmp_path / "runs").open(train(config, tmp_path / "runs"))
    broken = RunStore(tmp_path / "runs").create(config)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 5, kill=kill)
        if kill:
            with pytest.raises(SystemExit):
                run_training(broken)
        else:
            assert run_training(broken) == "stopped"
    assert run_training(broken, resume=True) == "finished"
    assert_same_bits(final_weights(whole), final_weights(broken))
    reader = [MetricReader(run.path) for run in (whole, broken)]
    assert all(each.poll() for each in reader)
    for name in ("train/loss", "val/loss", "loss/total"):
        (steps, values), (other_steps, other_values) = (each.history().series(name) for each in reader)
        assert steps.tolist() == other_steps.tolist()
        assert values.tolist() == other_values.tolist()


def test_a_crash_right_after_a_save_leaves_no_checkpoint_too_many(small_config: Small, tmp_path: Path) -> None:
    config = small_config("dense", "train.max_steps=8", "train.checkpoint_every=2", "train.keep_checkpoints=1")
    whole = RunStore(tmp_path / "runs").open(train(config, tmp_path / "runs"))
    broken = RunStore(tmp_path / "runs").create(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moe_hub.train.loop.remove_old", lambda *_: None)
        run_training(broken)
    assert len(broken.checkpoints()) == 4
    run_training(broken, resume=True)
    assert [folder.name for folder in broken.checkpoints()] == [folder.name for folder in whole.checkpoints()]


def test_a_cognitive_run_resumes_bit_for_bit(small_config: Small, tmp_path: Path) -> None:
    overrides = ("train.lambda_cognitive.enabled=true", "train.lambda_cognitive.scheduling=adaptive")
    config = small_config("geometric", *overrides)
    whole = RunStore(tmp_path / "runs").open(train(config, tmp_path / "runs"))
    broken = RunStore(tmp_path / "runs").create(config)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 7)
        run_training(broken)
    run_training(broken, resume=True)
    assert_same_bits(final_weights(whole), final_weights(broken))
    assert any("lambda/phase_weight" in row for row in rows(whole))


def test_accumulated_batches_give_the_gradient_of_one_large_batch(small_config: Small, tmp_path: Path) -> None:
    """Batches with different numbers of targets count by their targets, as in one batch."""
    run = RunStore(tmp_path / "runs").create(small_config("hgnn", "model.dropout=0"))
    with Controller(run.path) as controller:
        record = RunRecord(run.path, 1)
        trainer = _prepare(run, run.config(), record, controller, resume=False)
        one, two = trainer.data.train_batch(0), trainer.data.train_batch(1)
        two.labels_BT[0] = -100
        parts = (("input_ids_BT", 0), ("labels_BT", -100), ("documents_BT", 0))
        length = max(one.input_ids_BT.shape[1], two.input_ids_BT.shape[1])

        def padded(batch: Batch, name: str, value: int) -> torch.Tensor:
            tensor = getattr(batch, name)
            return torch.nn.functional.pad(tensor, (0, length - tensor.shape[1]), value=value)

        both = Batch(*(torch.cat([padded(batch, *part) for batch in (one, two)]) for part in parts))
        gradients = []
        for batches in ([one, two], [both]):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(trainer, "_batches", lambda batches=batches: batches)
                trainer._forward_backward(measure=False)
            gradients.append([p.grad.clone() for p in trainer.model.parameters() if p.grad is not None])
        record.close(state="stopped")
    assert len(gradients[0]) > 5
    for split, whole in zip(*gradients, strict=True):
        assert torch.allclose(split, whole, atol=1e-6, rtol=1e-4)


def test_pause_save_resume_and_stop_by_control_file(small_config: Small, tmp_path: Path) -> None:
    run = RunStore(tmp_path / "runs").create(small_config("hgnn", "train.max_steps=10"))
    original = Trainer._step
    seen: list[str] = []

    def watched(self: Trainer) -> None:
        original(self)
        if self.state.step == 2:
            control.request(run.path, "pause")
            control.request(run.path, "save")
        if self.state.step == 4:
            control.request(run.path, "stop")

    def no_sleep(_seconds: float) -> None:
        status = run.status()
        assert status is not None
        seen.append(status.state)
        if len(seen) == 3:
            control.request(run.path, "resume")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_step", watched)
        patch.setattr("moe_hub.train.loop.time.sleep", no_sleep)
        assert run_training(run) == "stopped"
    assert seen[0] == "paused"
    assert [folder.name for folder in run.checkpoints()] == ["step_00000002", "step_00000004"]
    events = [name for row in rows(run) for name in row if name.startswith("event/")]
    assert {"event/pause", "event/resume", "event/checkpoint"} <= set(events)
    status = run.status()
    assert status is not None
    assert (status.state, status.exit_reason) == ("stopped", "stopped on request")


def test_fork_begins_where_the_other_run_stood(small_config: Small, tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs")
    source = store.open(train(small_config("hgnn", "train.max_steps=6"), store.runs_dir))
    with pytest.raises(RunError, match="max_steps=12"):
        fork(store, source.run_id)
    with pytest.raises(RunError, match="has no checkpoint at step '5'"):
        fork(store, f"{source.run_id}@5")
    with pytest.raises(RunError, match="model section"):
        fork(store, source.run_id, ["model.num_experts=4"])
    new = fork(store, source.run_id, ["train.max_steps=9"])
    assert json.loads((new.path / "origin.json").read_text()) == {"run_id": source.run_id, "step": 6}
    assert run_training(new) == "finished"
    assert [row["step"] for row in rows(new) if "train/loss" in row] == [9]


def test_a_non_finite_loss_fails_with_advice_and_keeps_good_weights(small_config: Small, tmp_path: Path) -> None:
    run = RunStore(tmp_path / "runs").create(small_config("dense"))
    original = Trainer._step

    def poison(self: Trainer) -> None:
        if self.state.step == 4:
            bad = torch.full_like(self.model.embedding.weight, float("nan"))
            handle = self.model.embedding.weight.register_hook(lambda _gradient: bad)
            try:
                return original(self)
            finally:
                handle.remove()
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_step", poison)
        with pytest.raises(NonFiniteLoss, match="at step 5"):
            run_training(run)
    status = run.status()
    assert status is not None
    assert status.state == "failed"
    assert "learning rate" in status.exit_reason
    assert run.checkpoints()[-1].name == "step_00000004"
    assert all(torch.isfinite(value).all() for value in final_weights(run).values())


def test_a_full_disk_pauses_and_keeps_the_last_checkpoint(small_config: Small, tmp_path: Path) -> None:
    run = RunStore(tmp_path / "runs").create(small_config("dense", "train.checkpoint_every=4"))
    full = [True]

    def no_room(*_: object) -> None:
        if full[0] and run.checkpoints():
            raise OSError(28, "No space left on device")

    def no_sleep(_seconds: float) -> None:
        status = run.status()
        assert status is not None
        assert status.state == "paused"
        assert "No space left" in status.reason
        full[0] = False
        control.request(run.path, "resume")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moe_hub.checkpoint.require_room", no_room)
        patch.setattr("moe_hub.train.loop.time.sleep", no_sleep)
        assert run_training(run) == "finished"
    assert not full[0]
    kept = [folder.name for folder in run.checkpoints()]
    assert kept == ["step_00000004", "step_00000008", "step_00000012"]  # what there was no room for is written then


def test_the_best_checkpoint_is_kept_and_is_one_that_was_saved(small_config: Small, tmp_path: Path) -> None:
    losses = iter([3.0, 1.0, 2.0, 2.5, 2.2, 2.1, 2.05, 2.4, 2.3, 2.6, 2.7, 2.8, 2.9])
    config = small_config(
        "dense", "train.eval_every=1", "train.checkpoint_every=2", "train.keep_checkpoints=1", "train.max_steps=8"
    )
    run = RunStore(tmp_path / "runs").create(config)

    def scripted(*_: object) -> dict[str, float]:
        return {"val/loss": next(losses)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moe_hub.train.loop.evaluate_loss", scripted)
        run_training(run)
    # Evaluated: 1: 3.0, 2: 1.0, 3: 2.0, 4: 2.5 ... The best of the saved steps 2, 4, 6, 8 is 2.
    assert [folder.name for folder in run.checkpoints()] == ["step_00000002", "step_00000008"]
    state = read_state(run.checkpoints()[-1])
    assert (state.best_step, state.best_loss) == (2, 1.0)


def test_one_writer(small_config: Small, tmp_path: Path) -> None:
    run = RunStore(tmp_path / "runs").create(small_config("dense"))
    with pytest.MonkeyPatch.context() as patch, run.lock():
        patch.setattr("moe_hub.train.session.BRIEFLY_S", 0.0)
        with pytest.raises(RunError, match="another process"):
            run_training(run)


def test_a_failure_leaves_its_cause_and_traceback(
    small_config: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunStore(tmp_path / "runs").create(small_config("dense"))

    def broken(self: Trainer) -> None:
        raise MemoryError

    monkeypatch.setattr(Trainer, "_step", broken)
    with pytest.raises(MemoryError):
        run_training(run)
    status = run.status()
    assert status is not None
    assert status.state == "failed"
    assert "train.batch_size" in status.exit_reason
    assert "Traceback" in run.log_tail()
    assert os.getpid() == status.pid
