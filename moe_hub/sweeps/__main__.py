"""`python -m moe_hub.sweeps run FILE.yaml`: searches config keys and prints the trials, the best first."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from moe_hub.errors import MoeHubError
from moe_hub.runs.sweeps import SweepSummary, Trial
from moe_hub.sweeps.plan import read_sweep_plan
from moe_hub.sweeps.study import Sweep, check_metric

SHOWN = 10


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m moe_hub.sweeps",
        description="Searches config keys with Optuna; the queue trains each trial. Stopped by Ctrl-C, the same "
        "command goes on. The page shows the sweep on its Analysis tab.",
    )
    parser.add_argument("action", choices=("run", "table"), help="run: try what is missing, then the table")
    parser.add_argument("file", type=Path, help="the plan, such as configs/sweeps/rates.yaml")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="default: runs")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 0, 1 where no trial is complete, 2 for an unusable plan."""
    options = build_parser().parse_args(arguments)
    try:
        plan = read_sweep_plan(options.file)
        check_metric(plan)
        sweep = Sweep(options.runs_dir, plan, lambda line: print(line, file=sys.stderr, flush=True))
        if options.action == "run":
            sweep.run()
    except MoeHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("left; the run that is under way goes on, and the same command takes the sweep up again", file=sys.stderr)
        return 0
    summary = sweep.summary()
    print(table(summary))
    return 0 if summary.best() is not None else 1


def table(summary: SweepSummary) -> str:
    """The sweep as text: its best trials, how many ended how, and what mattered."""
    sign = 1.0 if summary.direction == "min" else -1.0
    complete = [trial for trial in summary.trials if trial.state == "complete" and trial.value is not None]
    complete.sort(key=lambda trial: sign * (trial.value or 0.0))
    ended = ", ".join(
        f"{sum(trial.state == state for trial in summary.trials)} {state}"
        for state in ("complete", "pruned", "failed", "running")
    )
    lines = [f"{summary.name}: {summary.question}", f"{len(summary.trials)} of {summary.total} trials: {ended}", ""]
    lines += [f"{summary.metric:<12} trial  values"] if complete else ["no trial is complete"]
    lines += [f"{trial.value:<12.5g} {trial.number:>5}  {_values(trial)}" for trial in complete[:SHOWN]]
    if summary.importance:
        shares = ", ".join(f"{key} {share:.0%}" for key, share in summary.importance.items())
        lines += ["", f"what tells good trials from all (PED-ANOVA): {shares}"]
    failed = [trial for trial in summary.trials if trial.state == "failed"]
    lines += [f"trial {trial.number} failed: {trial.reason}" for trial in failed[:SHOWN]]
    return "\n".join(lines)


def _values(trial: Trial) -> str:
    return ", ".join(f"{key}={value}" for key, value in trial.params.items())


if __name__ == "__main__":
    sys.exit(main())
