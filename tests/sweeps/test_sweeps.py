"""Sweeps: the plan's checks, the study on a made objective, going on after a stop, and one on real runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moe_hub import launch
from moe_hub.errors import RunError
from moe_hub.runs.status import Status, write_status
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.runs.sweeps import SweepSummary, Trial, read_sweep, sweep_names, write_sweep
from moe_hub.sweeps.__main__ import main, table
from moe_hub.sweeps.plan import SweepPlan, read_sweep_plan
from moe_hub.sweeps.study import Sweep

pytestmark = pytest.mark.slow

pytest.importorskip("optuna")

PLAN: dict[str, Any] = {
    "name": "rates",
    "preset": "geometric_lambda",
    "trials": 12,
    "space": {
        "train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "model.readout": {"choices": ["mean", "gate"]},
    },
}


def write_plan(folder: Path, **changed: Any) -> Path:
    path = folder / "plan.yaml"
    path.write_text(json.dumps({**PLAN, **changed}))
    return path


def rows(run: RunDirectory, values: list[float], state: str = "finished") -> None:
    lines = [{"step": 10 * n, "time": float(n), "attempt": 0, "val/loss": value} for n, value in enumerate(values, 1)]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_status(run.path, Status(state=state, max_steps=10 * len(values)))


@pytest.fixture
def made_runs(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], list[float]]], None]:
    """Replaces training by a made curve of the config."""

    def use(curve: Callable[[Any], list[float]]) -> None:
        def ended(run: RunDirectory, seen: Any = None, **_: Any) -> str:
            if run.state() == "finished":
                return "finished"
            values = curve(run.config())
            for length in range(1, len(values) + 1):
                rows(run, values[:length], "running")
                if seen is not None:
                    seen("running", None)
                if any(json.loads(path.read_text())["action"] == "stop" for path in (run.path / "control").iterdir()):
                    write_status(run.path, Status(state="stopped", max_steps=10 * len(values)))
                    return "stopped"
            rows(run, values)
            return "finished"

        monkeypatch.setattr(launch, "wait_for_end", ended)
        monkeypatch.setattr(launch, "enqueue", lambda runs_dir, config: RunStore(runs_dir).create(config).run_id)

    return use


def distance(config: Any) -> float:
    import math

    return abs(math.log10(config.train.learning_rate) + 2.5) + (0.0 if config.model.readout == "gate" else 0.5)


def test_it_finds_the_better_points_and_says_what_mattered(tmp_path: Path, made_runs: Any) -> None:
    made_runs(lambda config: [5.0, distance(config)])
    sweep = Sweep(tmp_path, read_sweep_plan(write_plan(tmp_path, trials=14)))
    sweep.run()
    summary = read_sweep(tmp_path, "rates")
    assert summary == sweep.summary()
    assert [trial.number for trial in summary.trials] == list(range(14))
    best = summary.best()
    assert best is not None
    assert best.value is not None
    assert best.value < 0.5
    assert best.params["model.readout"] == "gate"
    run = RunStore(tmp_path).open(best.run_ids[0])
    assert run.config().train.learning_rate == best.params["train.learning_rate"]
    assert distance(run.config()) == pytest.approx(best.value)
    assert sum(summary.importance.values()) == pytest.approx(1)
    text = table(summary)
    assert "14 of 14 trials: 14 complete" in text
    assert "PED-ANOVA" in text
    assert text.index(f"{best.value:.5g}") < text.index("PED-ANOVA")


def test_a_stopped_sweep_goes_on_with_the_run_it_had_begun(
    tmp_path: Path, made_runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_runs(lambda config: [distance(config)])
    plan = read_sweep_plan(write_plan(tmp_path, trials=6))
    going_on = launch.wait_for_end
    looks = iter(range(100))

    def stopped_at_the_third(run: RunDirectory, *rest: Any, **more: Any) -> str:
        if next(looks) == 2:
            raise KeyboardInterrupt
        return going_on(run, *rest, **more)

    monkeypatch.setattr(launch, "wait_for_end", stopped_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        Sweep(tmp_path, plan).run()
    before = read_sweep(tmp_path, "rates")
    assert [trial.state for trial in before.trials] == ["complete", "complete", "running"]
    Sweep(tmp_path, plan).run()
    after = read_sweep(tmp_path, "rates")
    assert [trial.state for trial in after.trials] == ["complete"] * 6
    assert after.trials[2].run_ids == before.trials[2].run_ids
    assert len(RunStore(tmp_path).ids()) == 6
    assert len({trial.params["train.learning_rate"] for trial in after.trials}) == 6


def test_a_trial_behind_the_others_is_stopped(tmp_path: Path, made_runs: Any) -> None:
    made_runs(lambda config: [distance(config) + 1, distance(config) + 0.5, distance(config)])
    Sweep(tmp_path, read_sweep_plan(write_plan(tmp_path, prune=True, sampler="random"))).run()
    summary = read_sweep(tmp_path, "rates")
    pruned = [trial for trial in summary.trials if trial.state == "pruned"]
    assert pruned
    assert all("median" in trial.reason for trial in pruned)
    assert all(RunStore(tmp_path).open(trial.run_ids[0]).state() == "stopped" for trial in pruned)
    assert summary.best() not in pruned


def test_a_value_that_does_not_fit_fails_its_trial_alone(tmp_path: Path, made_runs: Any) -> None:
    made_runs(lambda config: [1.0])
    space = {
        "model.architecture": {"choices": ["dense", "geometric"]},
        "train.mode": {"choices": ["standard", "geometric"]},
    }
    plan = read_sweep_plan(write_plan(tmp_path, sampler="grid", trials=4, preset=None, space=space))
    Sweep(tmp_path, plan).run()
    trials = read_sweep(tmp_path, "rates").trials
    failed = [trial for trial in trials if trial.state == "failed"]
    assert [trial.params for trial in failed] == [{"model.architecture": "dense", "train.mode": "geometric"}]
    assert "needs an architecture with rotations" in failed[0].reason
    assert sum(trial.state == "complete" for trial in trials) == 3


def test_seeds_of_a_trial_are_averaged(tmp_path: Path, made_runs: Any) -> None:
    made_runs(lambda config: [float(config.seed)])
    Sweep(tmp_path, read_sweep_plan(write_plan(tmp_path, seeds=[1, 2, 6], trials=1))).run()
    (trial,) = read_sweep(tmp_path, "rates").trials
    assert trial.value == 3.0
    assert len(trial.run_ids) == 3


def test_another_plan_under_the_same_name_is_refused(tmp_path: Path, made_runs: Any) -> None:
    made_runs(lambda config: [1.0])
    Sweep(tmp_path, read_sweep_plan(write_plan(tmp_path, trials=1))).run()
    Sweep(tmp_path, read_sweep_plan(write_plan(tmp_path, trials=2))).run()  # more trials of the same
    with pytest.raises(RunError, match="another plan"):
        Sweep(tmp_path, read_sweep_plan(write_plan(tmp_path, direction="max")))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"space": {}}, "space"),
        ({"space": {"train.learning_rte": {"low": 1e-4, "high": 1e-3}}}, "did you mean train.learning_rate"),
        ({"space": {"train.learning_rate": {"low": 1e-4, "high": 99}}}, "allowed is above 0, at most 1"),
        ({"space": {"train.learning_rate": {"low": 1e-3, "high": 1e-4}}}, "must be under"),
        ({"space": {"train.learning_rate": {"low": 1e-4}}}, "low and high"),
        ({"space": {"train.learning_rate": {"low": 1e-4, "high": 1e-3, "choices": [1, 2]}}}, "choices stand alone"),
        ({"space": {"model.readout": {"choices": ["gate", "foo"]}}}, "allowed is gate, mean"),
        ({"space": {"train.learning_rate": {"low": 0, "high": 1e-3, "log": True}}}, "log needs"),
        ({"sampler": "grid"}, "grid needs"),
        ({"sampler": "guess"}, "sampler"),
        ({"prune": True, "seeds": [0, 1]}, "one seed"),
        ({"trial": 3}, "did you mean trials"),
        ({"trials": 0}, "trials"),
        ({"name": "../x"}, "name"),
        ({"metric": "val/los"}, "metric val/los"),
    ],
)
def test_an_unusable_plan_is_told_and_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, Any], told: str
) -> None:
    assert main(["table", str(write_plan(tmp_path, **changed)), "--runs-dir", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error


def test_the_shipped_plans_are_usable() -> None:
    for path in (Path(__file__).parents[2] / "configs" / "sweeps").glob("*.yaml"):
        assert isinstance(read_sweep_plan(path), SweepPlan)


def test_summaries_come_back_and_what_is_none_is_said(tmp_path: Path) -> None:
    summary = SweepSummary("a", "?", "val/loss", "max", 2, (Trial(0, "complete", {"x": 1}, 2.0, ("r",)),), {"x": 1.0})
    assert sweep_names(tmp_path) == []
    write_sweep(tmp_path, summary)
    assert sweep_names(tmp_path) == ["a"]
    assert read_sweep(tmp_path, "a") == summary
    (tmp_path / ".sweeps" / "b.json").write_text("[1]")
    for name in ("b", "c", "../a", ""):
        with pytest.raises(RunError):
            read_sweep(tmp_path, name)


@pytest.mark.training
def test_two_real_trials(tmp_path: Path) -> None:
    small = {
        "train.max_steps": 4, "train.batch_size": 2, "train.eval_every": 2, "train.eval_batches": 1,
        "model.d_model": 16, "model.num_layers": 1, "data.num_train_samples": 200, "data.num_eval_samples": 20,
    }  # fmt: skip
    path = write_plan(tmp_path, trials=2, set=small)
    assert main(["run", str(path), "--runs-dir", str(tmp_path / "runs")]) == 0
    summary = read_sweep(tmp_path / "runs", "rates")
    assert [trial.state for trial in summary.trials] == ["complete", "complete"]
    assert summary.trials[0].value != summary.trials[1].value
