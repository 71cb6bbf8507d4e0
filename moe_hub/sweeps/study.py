"""A sweep under way: asks Optuna for a point, trains it through the queue, tells what came out.

The study lies in SQLite beside the runs, so that a sweep that was stopped goes on, and other programs of Optuna's
can open it. The page reads the summary (`moe_hub.runs.sweeps`), which is written after every change.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from moe_hub import launch
from moe_hub.config import Config
from moe_hub.errors import ConfigError, RunError
from moe_hub.runs import control
from moe_hub.runs.metrics import find_metric
from moe_hub.runs.reader import MetricReader
from moe_hub.runs.status import Status
from moe_hub.runs.store import RunDirectory, RunStore, file_lock
from moe_hub.runs.sweeps import SweepSummary, Trial, sweep_folder, write_sweep
from moe_hub.sweeps.plan import Range, SweepPlan

if TYPE_CHECKING:
    import optuna

LEAST_FOR_IMPORTANCE = 6  # complete trials; with fewer the shares of variance are noise
Say = Callable[[str], None]


class Sweep:
    """One plan on one runs folder."""

    def __init__(self, runs_dir: Path, plan: SweepPlan, say: Say = lambda line: None) -> None:
        """Opens the study, or begins it; raises `RunError` where Optuna is missing or the study is another."""
        self.store = RunStore(runs_dir)
        self.plan = plan
        self.say = say
        self._optuna = _import_optuna()
        self.study = self._open()

    def run(self) -> None:
        """Trains until the plan's number of trials is reached; what was under way at a stop goes on first.

        Raises `RunError` where another process is at it.
        """
        lock = file_lock(sweep_folder(self.store.runs_dir) / f"{self.plan.name}.lock", timeout_s=0)
        try:
            with lock:
                self._go_on()
        except filelock.Timeout:
            raise RunError(f"sweep {self.plan.name} is under way in another process") from None

    def _go_on(self) -> None:
        for trial in self.study.get_trials(states=(self._optuna.trial.TrialState.RUNNING,)):
            self._try(self._optuna.trial.Trial(self.study, trial._trial_id))
        if self.plan.sampler == "grid":
            for point in _grid(self.plan)[: self.plan.trials]:
                self.study.enqueue_trial(point, skip_if_exists=True)
        while self._left():
            self._try(self.study.ask(self._space()))
        self._write()

    def _left(self) -> bool:
        states = [trial.state.name for trial in self.study.get_trials(deepcopy=False)]
        return "WAITING" in states if self.plan.sampler == "grid" else len(states) < self.plan.trials

    def summary(self) -> SweepSummary:
        """What the sweep has found so far."""
        plan = self.plan
        trials = tuple(_trial(found) for found in self.study.get_trials())
        question = plan.question or f"Which {', '.join(plan.space)} gives the {plan.direction}imum of {plan.metric}?"
        return SweepSummary(
            plan.name, question, plan.metric, plan.direction, plan.trials, trials, self._importance(trials)
        )

    def _open(self) -> optuna.Study:
        plan, pruners = self.plan, self._optuna.pruners
        folder = sweep_folder(self.store.runs_dir)
        folder.mkdir(parents=True, exist_ok=True)
        study: optuna.Study = self._optuna.create_study(
            storage=f"sqlite:///{folder.resolve() / plan.name}.db",
            study_name=plan.name,
            direction="minimize" if plan.direction == "min" else "maximize",
            load_if_exists=True,
            pruner=pruners.MedianPruner(n_startup_trials=4) if plan.prune else pruners.NopPruner(),
        )
        fixed = plan.model_dump(mode="json", exclude={"trials", "question"})
        if study.user_attrs.get("plan", fixed) != fixed:
            raise RunError(
                f"sweep {plan.name} was begun with another plan; give this one another name, "
                f"or remove {folder / plan.name}.db to begin anew"
            )
        study.set_user_attr("plan", fixed)
        study.sampler = _sampler(self._optuna, plan, len(study.get_trials(deepcopy=False)))
        return study

    def _space(self) -> dict[str, Any]:
        return {key: _distribution(self._optuna, span) for key, span in self.plan.space.items()}

    def _try(self, trial: optuna.Trial) -> None:
        """Trains the runs of one trial and tells the value: the mean over seeds of the metric's last value."""
        state = self._optuna.trial.TrialState
        values = {key: _plain(value) for key, value in trial.params.items()}
        try:
            configs = [self.plan.config(values, seed, trial.number) for seed in self.plan.seeds]
        except ConfigError as error:  # two values that do not go together
            self._fail(trial, str(error))
            return
        self._write()
        results = []
        for config in configs:
            run = self._run_of(trial, config)
            ended = self._wait(trial, run)
            if ended == "pruned":
                self.study.tell(trial, state=state.PRUNED)
                self._write()
                return
            value = _last(run, self.plan.metric)
            if ended != "finished" or value is None:
                self._fail(trial, f"run {run.run_id} is {ended}" + ("" if value else f" with no {self.plan.metric}"))
                return
            results.append(value)
        self.study.tell(trial, math.fsum(results) / len(results))
        self.say(f"trial {trial.number}: {self.plan.metric} {math.fsum(results) / len(results):.5g} with {values}")
        self._write()

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        trial.set_user_attr("reason", reason)
        self.study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        self.say(f"trial {trial.number} failed: {reason}")
        self._write()

    def _run_of(self, trial: optuna.Trial, config: Config) -> RunDirectory:
        """The run of this trial and seed, where a stopped sweep had begun it; else a new one in the queue."""
        run_ids: list[str] = list(trial.user_attrs.get("run_ids", []))
        for run_id in run_ids:
            try:
                run = self.store.open(run_id)
                if run.config() == config:
                    return run
            except RunError:
                continue
        run_id = launch.enqueue(self.store.runs_dir, config)
        trial.set_user_attr("run_ids", [*run_ids, run_id])
        self._write()
        return self.store.open(run_id)

    def _wait(self, trial: optuna.Trial, run: RunDirectory) -> str:
        """The state in which the run ended, or `pruned`."""
        reader, reported, pruned = MetricReader(run.path), -1, False

        def seen(state: str, status: Status | None) -> None:
            nonlocal reported, pruned
            if not self.plan.prune or pruned:
                return
            reader.poll()
            steps, values = reader.history().series(self.plan.metric)
            for step, value in zip(steps.tolist(), values.tolist(), strict=True):
                if step > reported:
                    trial.report(value, int(step))
                    reported = int(step)
            if reported >= 0 and trial.should_prune():
                pruned = True
                trial.set_user_attr("reason", f"behind the median of earlier trials at step {reported}")
                control.request(run.path, "stop")

        ended = launch.wait_for_end(run, seen)
        return "pruned" if pruned and ended == "stopped" else ended

    def _importance(self, trials: tuple[Trial, ...]) -> dict[str, float]:
        """Each key's share by PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255): what tells good points from all."""
        complete = [trial for trial in trials if trial.state == "complete"]
        if len(complete) < LEAST_FOR_IMPORTANCE or len({trial.value for trial in complete}) < 2:
            return {}
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        try:
            found = get_param_importances(self.study, evaluator=PedAnovaImportanceEvaluator())
        except (ValueError, RuntimeError):  # a key that took one value only
            return {}
        return {key: float(share) for key, share in found.items() if math.isfinite(share)}

    def _write(self) -> None:
        write_sweep(self.store.runs_dir, self.summary())


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise RunError(
            "the package optuna is not installed; pip install 'moe-hub[sweeps]', then run this again"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _sampler(optuna: Any, plan: SweepPlan, tried: int) -> Any:
    """The sampler; a sweep that goes on draws on, where the same seed would try the first points again."""
    seed = plan.sampler_seed + tried
    if plan.sampler != "tpe":  # points of a grid are queued in the study; nothing is left to draw
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(1, plan.trials // 3)))


def _grid(plan: SweepPlan) -> list[dict[str, Any]]:
    """Every point of the grid, the last key changing first."""
    return [dict(zip(plan.space, point, strict=True)) for point in itertools.product(*map(_marks, plan.space.values()))]


def _marks(span: Range) -> list[Any]:
    if span.choices is not None:
        return list(span.choices)
    low, high, step = span.low or 0, span.high or 0, span.step or 1
    return [low + number * step for number in range(math.floor((high - low) / step + 1e-9) + 1)]


def _distribution(optuna: Any, span: Range) -> Any:
    kinds = optuna.distributions
    if span.choices is not None:
        return kinds.CategoricalDistribution([value if _is_plain(value) else str(value) for value in span.choices])
    if span.is_whole() and (span.step is None or isinstance(span.step, int)):
        return kinds.IntDistribution(span.low, span.high, log=span.log, step=span.step or 1)
    return kinds.FloatDistribution(float(span.low or 0), float(span.high or 0), log=span.log, step=span.step)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _plain(value: Any) -> Any:
    """A float as short as it can be and still decide the same: 15 digits make config files ugly and say nothing."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _last(run: RunDirectory, metric: str) -> float | None:
    reader = MetricReader(run.path)
    reader.poll()
    _, values = reader.history().series(metric)
    return float(values[-1]) if len(values) and math.isfinite(values[-1]) else None


def _trial(found: Any) -> Trial:
    attributes = found.user_attrs
    value = found.value if found.value is not None and math.isfinite(found.value) else None
    return Trial(
        number=found.number,
        state={"FAIL": "failed"}.get(found.state.name, found.state.name.lower()),
        params={key: _plain(item) for key, item in found.params.items()},
        value=value,
        run_ids=tuple(attributes.get("run_ids", ())),
        reason=str(attributes.get("reason", "")),
    )


def check_metric(plan: SweepPlan) -> None:
    """Raises `ConfigError` where the metric is none that a run logs."""
    if find_metric(plan.metric) is None:
        raise ConfigError(f"sweep {plan.name}: metric {plan.metric} is none that a run logs; see docs for their names")
