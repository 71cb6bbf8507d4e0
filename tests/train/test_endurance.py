"""What a person finds after the things that go wrong in a night: a full disk, a lost folder, no memory, NaN, a kill."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from moe_hub import launch
from moe_hub.checkpoint import read_state
from moe_hub.config import Config
from moe_hub.errors import DataError
from moe_hub.runs import control
from moe_hub.runs.fork import fork
from moe_hub.runs.reader import MetricReader
from moe_hub.runs.status import FAILURE_KINDS, Status
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.terminal.listing import main as list_command
from moe_hub.train import train
from moe_hub.train.failure import FolderLost, NonFiniteLoss, explain
from moe_hub.train.loop import Trainer
from moe_hub.train.session import run_training

pytestmark = pytest.mark.training

Small = Callable[..., Config]
EVERYTHING = ("time/", "system/", "event/")  # what differs between a run that was disturbed and one that was not


def final_weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    return load_file(run.checkpoints()[-1] / "model.safetensors")


def assert_same_bits(one: RunDirectory, other: RunDirectory) -> None:
    ours, theirs = final_weights(one), final_weights(other)
    assert ours.keys() == theirs.keys()
    assert not [name for name in ours if ours[name].numpy().tobytes() != theirs[name].numpy().tobytes()]


def assert_same_rows(one: RunDirectory, other: RunDirectory) -> None:
    histories = []
    for run in (one, other):
        reader = MetricReader(run.path)
        reader.poll()
        histories.append(reader.history())
    names = [sorted(name for name in each.names() if not name.startswith(EVERYTHING)) for each in histories]
    assert names[0] == names[1] != []
    for name in names[0]:
        (steps, values), (at, expected) = (each.arrays(name) for each in histories)
        assert steps.tolist() == at.tolist(), name
        assert values.tobytes() == expected.tobytes(), name


def status_of(run: RunDirectory) -> Status:
    status = run.status()
    assert status is not None
    return status


def before_step(monkeypatch: pytest.MonkeyPatch, step: int, work: Callable[[Trainer], None]) -> None:
    """Does `work` once, just before that step is made."""
    original, done = Trainer._step, []

    def watched(self: Trainer) -> None:
        if self.state.step == step - 1 and not done:
            done.append(True)
            work(self)
        original(self)

    monkeypatch.setattr(Trainer, "_step", watched)


def while_paused(monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> None:
    """Does `work` each time that the paused trainer looks for requests."""
    monkeypatch.setattr("moe_hub.train.loop.time.sleep", lambda _seconds: work())


def poison(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the gradient of one step NaN in one tensor."""

    def work(trainer: Trainer) -> None:
        weight = trainer.model.embedding.weight
        handles = [weight.register_hook(lambda gradient: (handles[0].remove(), gradient * float("nan"))[1])]

    before_step(monkeypatch, step, work)


@pytest.mark.parametrize(
    ("left", "every", "steps"), [(0, 10, 30), (8 << 20, 4, 12)], ids=["to the last byte", "for a checkpoint"]
)
def test_a_full_disk_of_20_mb(
    left: int,
    every: int,
    steps: int,
    small_config: Small,
    make_disk: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It pauses and says so, keeps the last checkpoint, and after room is made ends as if nothing had been."""
    config = small_config("dense", f"train.checkpoint_every={every}", f"train.max_steps={steps}", "train.log_every=1")
    whole = RunStore(tmp_path / "runs").open(train(config, tmp_path / "runs"))
    disk = make_disk("size=20m")
    run = RunStore(disk / "runs").create(config)
    filler = disk / "filler"
    seen: list[Status] = []

    def fill(_trainer: Trainer) -> None:
        with filler.open("wb") as file:
            size = shutil.disk_usage(disk).free - left
            while size > 0:
                try:
                    size -= os.write(file.fileno(), bytes(min(size, 1 << 16)))
                except OSError:
                    break

    def look() -> None:
        seen.append(status_of(run))
        if len(seen) == 2:
            assert read_state(run.checkpoints()[-1]).step == every  # the last good one
            assert [path.name for path in (run.path / "checkpoints").glob(".*")] == []
            filler.unlink()
            control.request(run.path, "resume")

    before_step(monkeypatch, every + 2, fill)
    while_paused(monkeypatch, look)
    assert run_training(run) == "finished"
    assert [each.state for each in seen] == ["paused", "paused"]
    assert "No space left" in seen[0].reason
    assert "Free some space, then resume" in seen[0].reason
    assert seen[0].failure["kind"] == "disk_full"
    assert "rows wait in memory" in seen[0].reason if left == 0 else "checkpoint of step 8" in seen[0].reason
    assert status_of(run).failure == {}
    assert_same_bits(run, whole)
    assert_same_rows(run, whole)
    assert [folder.name for folder in run.checkpoints()] == [folder.name for folder in whole.checkpoints()]


def test_a_run_that_stops_on_a_full_disk_says_where_it_can_go_on(
    small_config: Small, make_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = make_disk("size=20m")
    run = RunStore(disk / "runs").create(small_config("dense", "train.checkpoint_every=4"))

    def fill(_trainer: Trainer) -> None:
        (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - (1 << 20)))

    before_step(monkeypatch, 6, fill)
    while_paused(monkeypatch, lambda: control.request(run.path, "stop"))
    assert run_training(run) == "stopped"
    assert "the last checkpoint is step 4" in status_of(run).exit_reason
    (disk / "filler").unlink()
    assert run_training(run, resume=True) == "finished"


def test_a_folder_that_is_removed_ends_the_run_and_the_command_says_so(
    small_config: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunStore(tmp_path / "runs").create(small_config("dense"))
    before_step(monkeypatch, 3, lambda _trainer: shutil.rmtree(run.path))
    monkeypatch.setattr("moe_hub.train.record.LOST_PATIENCE_S", 0.3)
    with pytest.raises(FolderLost, match="was removed or moved while it trained"):
        run_training(run)
    assert "is gone; waiting" in capsys.readouterr().err
    assert not run.path.exists()  # it is not made again, half empty


def test_a_folder_that_comes_back_is_used_again(
    small_config: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config("dense", "train.log_every=1")
    whole = RunStore(tmp_path / "runs").open(train(config, tmp_path / "runs"))
    run = RunStore(tmp_path / "runs").create(config)
    away = tmp_path / "away"
    before_step(monkeypatch, 3, lambda _trainer: run.path.rename(away))
    real = time.sleep

    def back(seconds: float) -> None:
        if away.exists():
            away.rename(run.path)
        real(min(seconds, 0.01))

    monkeypatch.setattr("moe_hub.train.record.time.sleep", back)
    assert run_training(run) == "finished"
    assert_same_bits(run, whole)
    assert_same_rows(run, whole)


def test_a_bad_step_is_kept_for_a_look_and_not_applied(
    small_config: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunStore(tmp_path / "runs").create(small_config("dense", "train.grad_accumulation=2", "train.log_every=1"))
    poison(5, monkeypatch)
    with pytest.raises(NonFiniteLoss, match="at step 5"):
        run_training(run)
    status = status_of(run)
    assert (status.state, status.failure["kind"]) == ("failed", "non_finite")
    assert "in embedding.weight" in status.failure["cause"]
    assert "lower learning rate" in status.failure["advice"]
    assert status.failure["log"].rstrip().endswith(status.exit_reason)
    folder = run.path / "failures" / "step_00000005"
    report = json.loads((folder / "report.json").read_text())
    assert (report["step"], report["first_batch"], report["weights_before"]) == (5, 8, "step_00000004")
    assert [(each["name"], each["which"]) for each in report["not_finite"]] == [("embedding.weight", "gradient")]
    assert report["gradient_norm"] == "NaN"
    assert report["losses"]["loss/task"] == pytest.approx(report["task_loss"], rel=1e-5)
    tensors = load_file(folder / "batches.safetensors")
    assert tensors["0/input_ids_BT"].shape == tensors["0/labels_BT"].shape
    assert {name.split("/")[0] for name in tensors} == {"0", "1"}
    saved = read_state(run.checkpoints()[-1])
    assert saved.step == 4
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert saved.tokens == next(row["tokens"] for row in rows if row["step"] == 4)
    assert rows[-1]["step"] == 5
    assert rows[-1]["event/nonfinite"] == 1


@pytest.mark.parametrize("wish", ["resume", "stop"])
def test_a_bad_step_can_hold_the_run_instead(
    wish: str, small_config: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunStore(tmp_path / "runs").create(small_config("dense", "train.on_nonfinite=pause", "train.log_every=1"))
    poison(5, monkeypatch)
    seen: list[Status] = []

    def look() -> None:
        seen.append(status_of(run))
        control.request(run.path, wish)

    while_paused(monkeypatch, look)
    assert run_training(run) == ("finished" if wish == "resume" else "stopped")
    assert seen[0].state == "paused"
    assert seen[0].failure["kind"] == "non_finite"
    assert "leaves this step out" in seen[0].reason
    assert status_of(run).step == (12 if wish == "resume" else 4)
    assert all(torch.isfinite(value).all() for value in final_weights(run).values())
    if wish == "stop":  # the step is made when the run is resumed, and is good this time
        assert run_training(run, resume=True) == "finished"


def test_a_skipped_step_changes_nothing_else(small_config: Small, tmp_path: Path) -> None:
    """Killed after it and resumed, the run ends as one that was not killed."""
    config = small_config("dense", "train.on_nonfinite=pause", "train.checkpoint_every=3", "train.log_every=1")
    runs = []
    for kill in (False, True):
        run = RunStore(tmp_path / "runs").create(config)
        runs.append(run)
        with pytest.MonkeyPatch.context() as patch:
            poison(5, patch)
            while_paused(patch, lambda run=run: control.request(run.path, "resume"))
            if kill:
                before_step(patch, 8, lambda _trainer: (_ for _ in ()).throw(SystemExit("killed")))
                with pytest.raises(SystemExit):
                    run_training(run)
            else:
                run_training(run)
    assert run_training(runs[1], resume=True) == "finished"
    assert_same_bits(*runs)


@pytest.mark.parametrize(
    "choices",
    [
        ("orthogonal",),
        ("ghost", "model.ghost.saturation_measure=fvu_grad", "model.ghost.background_learning=true"),
        ("ghost", "model.ghost.saturation_measure=legacy", "model.ghost.initialization=clone"),
    ],
)
def test_a_skipped_step_leaves_no_statistics(
    choices: tuple[str, ...], small_config: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Controllers and ghosts would take those of a bad step for a part of the next one."""
    left: list[bool] = []

    def look(trainer: Trainer) -> None:
        for layer in trainer.model.stack:
            left.append(bool(layer.statistics))
            if (ghosts := layer.ghosts) is not None:
                left.append(bool(ghosts.loads or ghosts.background_gradients or ghosts.saturation.parts))

    architecture, *more = choices
    run = RunStore(tmp_path / "runs").create(small_config(architecture, "train.on_nonfinite=pause", *more))
    poison(5, monkeypatch)
    while_paused(monkeypatch, lambda: control.request(run.path, "resume"))
    before_step(monkeypatch, 6, look)
    assert run_training(run) == "finished"
    assert left
    assert not any(left)


def test_no_memory_names_the_settings_that_need_it(
    small_config: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what torch's allocator really says."""
    run = RunStore(tmp_path / "runs").create(small_config("dense"))
    before_step(monkeypatch, 3, lambda _trainer: torch.empty(1 << 58, dtype=torch.uint8))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        run_training(run)
    failure = status_of(run).failure
    assert failure["kind"] == "out_of_memory"
    assert "can't allocate memory" in failure["cause"]
    assert "train.batch_size" in failure["advice"]
    assert "Traceback" in failure["log"]


def command(runs_dir: Path, *overrides: str) -> list[str]:
    flags = [part for override in overrides for part in ("--set", override)]
    return [sys.executable, "-m", "moe_hub.train", "--runs-dir", str(runs_dir), *flags]


@pytest.mark.timeout(900)
def test_no_memory_in_the_real_command(small_config: Small, tmp_path: Path) -> None:
    """A limit on the address space, as of a batch system, and a model that does not fit."""
    small_config()  # the folder of the data
    large = ("model.architecture=dense", "model.d_model=16384", "model.num_layers=1", "model.num_heads=16")
    few = ("data.num_train_samples=40", "data.num_eval_samples=8", "data.max_term_size=9", "train.threads=1")
    limit = 5 << 30
    done = subprocess.run(
        command(tmp_path / "runs", *large, *few), capture_output=True, text=True, timeout=800,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)), check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr[-2000:]
    store = RunStore(tmp_path / "runs")
    status = status_of(store.open(store.ids()[0]))
    assert (status.state, status.failure["kind"]) == ("failed", "out_of_memory"), status.exit_reason
    assert "model.d_model" in status.failure["advice"]


def test_bad_data_is_the_persons_to_mend(
    small_config: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n{"text": \n')
    run = RunStore(tmp_path / "runs").create(small_config("dense", "data.source=file", f"data.path={file}"))
    with pytest.raises(DataError) as raised:
        run_training(run)
    failure = status_of(run).failure
    assert failure["kind"] == "data"
    assert failure["cause"] == " ".join(str(raised.value).split())
    assert "rows.jsonl" in failure["cause"]
    assert list_command(["runs", "--json", "--runs-dir", str(tmp_path / "runs")]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["problem"] == failure["cause"]
    assert list_command(["runs", "--runs-dir", str(tmp_path / "runs")]) == 0
    assert "rows.jsonl" in capsys.readouterr().out


def test_every_failure_is_of_a_known_kind() -> None:
    for error in (MemoryError(), OSError(28, "x"), OSError(12, "x"), DataError("x"), FolderLost("x"), KeyError("x")):
        found = explain(error)
        assert found.kind in FAILURE_KINDS
        assert found.cause
        assert found.advice
    assert explain(OSError(12, "Cannot allocate memory")).kind == "out_of_memory"
    assert explain(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling x")).kind == "out_of_memory"


@pytest.mark.timeout(900)
def test_a_killed_trainer_is_interrupted_at_once_and_resumes_over_garbage(
    small_config: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real trainer of the launcher; SIGKILL; what a person reads; bytes of no sense in its rows; Resume."""
    few = ("train.log_every=1", "train.checkpoint_every=2", "train.keep_checkpoints=99")
    config = small_config("dense", "train.max_steps=400", *few)
    run = RunStore(tmp_path / "runs").open(launch.launch_run(tmp_path / "runs", config))
    deadline = time.monotonic() + 800
    while len(run.checkpoints()) < 2:
        assert time.monotonic() < deadline, run.log_tail()
        time.sleep(0.01)
    pid = status_of(run).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    begun = time.monotonic()
    while run.state() != "interrupted":
        assert time.monotonic() - begun < 10
        time.sleep(0.01)
    while not status_of(run).failure:  # written by whoever looks first: this, or what launched it
        assert time.monotonic() - begun < 60
        launch.reconcile(tmp_path / "runs")
    failure = status_of(run).failure
    assert (failure["kind"], "killed" in failure["cause"]) == ("killed", True)
    assert "Resume goes on from the checkpoint of step" in failure["advice"]
    assert failure["log"]
    assert list_command(["runs", "--runs-dir", str(tmp_path / "runs")]) == 0
    assert "killed, or out of memory" in capsys.readouterr().out
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b'\x00\xff{"step": 3, \n[]\n{"step": -1}\n{"step": "x", "train/loss": 1}\n{"step": 9')
    saved = read_state(run.checkpoints()[-1]).step
    short = config.model_copy(update={"train": config.train.model_copy(update={"max_steps": saved + 3})})
    (run.path / "config.yaml").write_text(_yaml(short))  # to be done soon
    assert run_training(run, resume=True) == "finished"
    reader = MetricReader(run.path)
    reader.poll()
    assert reader.bad_lines == 5
    assert reader.history().series("train/loss")[0].tolist() == list(range(1, saved + 4))
    assert status_of(run).failure == {}


def _yaml(config: Config) -> str:
    from moe_hub.config import to_yaml

    return to_yaml(config)


WAKING = (
    "model.num_experts=3", "model.ghost.activation_threshold=0.0001", "model.ghost.saturation_window=4",
    "model.ghost.min_step=4", "model.ghost.plateau=1", "model.ghost.ramp_steps=8", "train.grad_accumulation=2",
    "train.max_steps=16", "train.checkpoint_every=5", "train.log_every=1",
)  # fmt: skip


@pytest.mark.parametrize("coupling", ["inverse", "complementary"])
def test_a_kill_in_the_middle_of_a_waking_ghost(coupling: str, small_config: Small, tmp_path: Path) -> None:
    config = small_config("ghost", *WAKING, f"model.ghost.lr_coupling={coupling}")
    whole = RunStore(tmp_path / "runs").open(train(config, tmp_path / "runs"))
    reader = MetricReader(whole.path)
    reader.poll()
    steps, activation = reader.history().arrays("ghost/activation")
    share = dict(zip(steps.tolist(), activation.reshape(len(steps), -1).max(1).tolist(), strict=True))
    assert 0 < share[10] < 1  # the checkpoint that it goes on from is one of a ghost half awake
    broken = RunStore(tmp_path / "runs").create(config)
    with pytest.MonkeyPatch.context() as patch:
        before_step(patch, 13, lambda _trainer: (_ for _ in ()).throw(SystemExit("killed")))
        with pytest.raises(SystemExit):
            run_training(broken)
    assert run_training(broken, resume=True) == "finished"
    assert_same_bits(broken, whole)
    assert_same_rows(broken, whole)


@pytest.mark.parametrize("architecture", ["geometric", "ghost"])
def test_a_paused_run_equals_the_uninterrupted_one(
    architecture: str, small_config: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(architecture, "train.grad_accumulation=2", "train.log_every=1")
    whole = RunStore(tmp_path / "runs").open(train(config, tmp_path / "runs"))
    run = RunStore(tmp_path / "runs").create(config)
    before_step(monkeypatch, 4, lambda _trainer: control.request(run.path, "pause"))

    def save_and_resume() -> None:
        control.request(run.path, "save")
        control.request(run.path, "resume")

    while_paused(monkeypatch, save_and_resume)
    assert run_training(run) == "finished"
    assert_same_bits(run, whole)
    assert_same_rows(run, whole)


def test_a_pause_right_after_a_resume_takes_no_row_away(
    small_config: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of a pause at the step of the checkpoint would be of a newer attempt than that step's own."""
    config = small_config("dense", "train.log_every=1")
    run = RunStore(tmp_path / "runs").create(config)
    with pytest.MonkeyPatch.context() as patch:
        before_step(patch, 9, lambda _trainer: (_ for _ in ()).throw(SystemExit("killed")))
        with pytest.raises(SystemExit):
            run_training(run)
    control.request(run.path, "pause")
    while_paused(monkeypatch, lambda: control.request(run.path, "resume"))
    assert run_training(run, resume=True) == "finished"
    reader = MetricReader(run.path)
    reader.poll()
    assert reader.history().series("train/loss")[0].tolist() == list(range(1, 13))


def test_a_kill_between_the_last_checkpoint_and_the_last_word(
    small_config: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config("dense", "train.log_every=1")
    whole = RunStore(tmp_path / "runs").open(train(config, tmp_path / "runs"))
    run = RunStore(tmp_path / "runs").create(config)
    original = Trainer._finish

    def killed(self: Trainer) -> None:
        original(self)
        raise SystemExit("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_finish", killed)
        with pytest.raises(SystemExit):
            run_training(run)
    assert run_training(run, resume=True) == "finished"
    assert_same_bits(run, whole)
    assert_same_rows(run, whole)


@pytest.mark.parametrize("which", ["early", "best"])
def test_a_fork_from_any_checkpoint_goes_on_as_its_source_did(
    which: str, small_config: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([3.0, 1.0, 2.0, 2.5, *[2.4] * 20])

    def scripted(_model: object, batches: Any, *_: object) -> dict[str, float]:
        list(batches)
        return {"val/loss": next(losses)}

    monkeypatch.setattr("moe_hub.train.loop.evaluate_loss", scripted)
    keep = "train.keep_checkpoints=1" if which == "best" else "train.keep_checkpoints=9"
    config = small_config("geometric", "train.checkpoint_every=3", "train.eval_every=3", keep)
    store = RunStore(tmp_path / "runs")
    source = store.open(train(config, store.runs_dir))
    steps = [int(folder.name.removeprefix("step_")) for folder in source.checkpoints()]
    assert steps == ([6, 12] if which == "best" else [3, 6, 9, 12])
    new = fork(store, f"{source.run_id}@{steps[0]}")
    shutil.rmtree(source.path / "checkpoints" / f"step_{steps[0]:08d}")  # a fork needs its source no more
    assert run_training(new) == "finished"
    assert_same_bits(new, source)
