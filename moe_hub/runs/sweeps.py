"""What a sweep has found so far, in one small file beside the runs: the page reads it without Optuna."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from moe_hub.errors import RunError
from moe_hub.runs.files import read_regular, replace_file

FOLDER = ".sweeps"
SWEEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True)
class Trial:
    """One point of a sweep: the values it tried, the runs it trained, and what came out.

    `state` is running, complete, pruned or failed; `value` is None unless it is complete or pruned.
    """

    number: int
    state: str
    params: dict[str, Any]
    value: float | None = None
    run_ids: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class SweepSummary:
    """A sweep: what it seeks, its trials in their order, and each key's share of the variance of the value.

    `importance` sums to 1 over the keys and is empty while too few trials are complete.
    """

    name: str
    question: str
    metric: str
    direction: str
    total: int
    trials: tuple[Trial, ...] = ()
    importance: dict[str, float] = field(default_factory=dict)

    def best(self) -> Trial | None:
        """The complete trial with the best value; the earlier one of equals."""
        done = [trial for trial in self.trials if trial.state == "complete" and trial.value is not None]
        sign = 1.0 if self.direction == "min" else -1.0
        return min(done, key=lambda trial: sign * (trial.value or 0.0), default=None)


def sweep_folder(runs_dir: Path) -> Path:
    """Where the sweeps of a runs folder lie."""
    return runs_dir / FOLDER


def sweep_names(runs_dir: Path) -> list[str]:
    """The sweeps that have a summary, by name."""
    try:
        found = [path.stem for path in sweep_folder(runs_dir).iterdir() if path.suffix == ".json"]
    except OSError:
        return []
    return sorted(name for name in found if SWEEP_NAME.fullmatch(name))


def write_sweep(runs_dir: Path, summary: SweepSummary) -> None:
    """Replaces the summary; raises `RunError` where the disk refuses."""
    folder = sweep_folder(runs_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / f"{summary.name}.json", orjson.dumps(asdict(summary), option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise RunError(f"sweep {summary.name}: {folder} cannot be written: {error.strerror or error}") from None


def read_sweep(runs_dir: Path, name: str) -> SweepSummary:
    """The summary of a sweep; raises `RunError` where there is none that can be read."""
    if not SWEEP_NAME.fullmatch(name):
        raise RunError(f"{name[:60]!r} is no name of a sweep; names have 1 to 40 letters, digits, - and _")
    path = sweep_folder(runs_dir) / f"{name}.json"
    try:
        values = orjson.loads(read_regular(path))
        trials = tuple(Trial(**{**trial, "run_ids": tuple(trial["run_ids"])}) for trial in values.pop("trials"))
        return SweepSummary(**values, trials=trials)
    except OSError:
        raise RunError(f"there is no sweep {name} in {runs_dir}; see those there are on the Analysis tab") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise RunError(f"sweep {name}: {path.name} is no summary of a sweep; run the sweep again") from None
