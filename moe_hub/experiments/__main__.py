"""`python -m moe_hub.experiments run FILE.yaml`: trains every cell of an experiment and prints its table."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from moe_hub import launch
from moe_hub.errors import MoeHubError, RunError
from moe_hub.experiments.ledger import Ledger
from moe_hub.experiments.plan import Plan, read_plan
from moe_hub.runs.status import Status

POLL_S = 2.0
LINE_EVERY_S = 30.0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m moe_hub.experiments",
        description="Compares arms over seeds: runs go through the queue, and one table comes out. "
        "Stopped by Ctrl-C, it goes on where it was when it is run again.",
    )
    parser.add_argument(
        "action",
        choices=("run", "table", "report", "plan"),
        help="run: train what is missing, then the table; report: the table with curves as one HTML file; plan: what "
        "is done and what is not",
    )
    parser.add_argument("file", type=Path, help="the plan, such as configs/experiments/one_step.yaml")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="default: runs")
    parser.add_argument("--out", type=Path, default=None, help="where the report goes; default: NAME.html")
    parser.add_argument(
        "--document",
        type=Path,
        default=None,
        metavar="FILE.md",
        help="also put the table into this file, between <!-- experiment NAME --> and <!-- end NAME -->",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 0, 1 where a run failed, 2 for an unusable plan."""
    options = build_parser().parse_args(arguments)
    try:
        plan = read_plan(options.file)
    except MoeHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    ledger = Ledger(options.runs_dir, plan)
    if options.action == "plan":
        _print_plan(ledger, plan)
        return 0
    failed: list[str] = []
    try:
        if options.action == "run":
            failed = run_plan(ledger, plan)
        _show(options, ledger, plan)
    except MoeHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("left; what is queued goes on, and the same command takes it up again", file=sys.stderr)
        return 0
    for problem in failed:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if failed else 0


def run_plan(ledger: Ledger, plan: Plan) -> list[str]:
    """Queues every cell that has no run, or a failed one, and waits for all; returns what failed."""
    ledger.store.runs_dir.mkdir(parents=True, exist_ok=True)
    for arm, seed in plan.cells():
        run = ledger.run(arm, seed)
        if run is None or run.state() == "failed":
            ledger.record(arm, seed, launch.enqueue(ledger.store.runs_dir, plan.config(arm, seed)))
    problems = (_wait(ledger, arm, seed) for arm, seed in plan.cells())
    return [problem for problem in problems if problem]


def _wait(ledger: Ledger, arm: str, seed: int) -> str:
    """Waits for the end of a run; says what is wrong where it did not finish."""
    run = ledger.run(arm, seed)
    if run is None:
        raise RunError(f"experiment {ledger.plan.name}: the run of {arm}, seed {seed} is gone; run the command again")
    progress = _Progress(f"{arm}, seed {seed}")

    def show(state: str, status: Status | None) -> None:
        progress.show(state, status.step if status else 0, status.max_steps if status else 0)

    state = launch.wait_for_end(run, show, poll_s=POLL_S)
    progress.end(state)
    if state == "finished":
        return ""
    status = run.status()
    reason = status.exit_reason if status else "no status"
    return f"run {run.run_id} ({arm}, seed {seed}) is {state}: {reason}; the same command tries it again"


class _Progress:
    """One line that changes, on a terminal; in a log a line for each state and each half minute."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.terminal = sys.stderr.isatty()
        self.state = ""
        self.shown_at = 0.0

    def show(self, state: str, step: int, steps: int) -> None:
        """Says how far the run is."""
        now = time.monotonic()
        if not self.terminal and state == self.state and now - self.shown_at < LINE_EVERY_S:
            return
        self.state, self.shown_at = state, now
        self._print(f"{state}, step {step} of {steps}")

    def end(self, state: str) -> None:
        """Says how it ended."""
        self._print(state)
        if self.terminal:
            print(file=sys.stderr)

    def _print(self, text: str) -> None:
        line = f"{self.name}: {text}"
        print(
            f"\r\033[K{line}" if self.terminal else line, end="" if self.terminal else "\n", file=sys.stderr, flush=True
        )


def _show(options: argparse.Namespace, ledger: Ledger, plan: Plan) -> None:
    from moe_hub.experiments.results import collect  # torch, which counts operations
    from moe_hub.experiments.table import document, put_into

    arms = collect(ledger, plan)
    if not arms:
        raise RunError(f"experiment {plan.name}: no run has finished in {options.runs_dir}; start them with run")
    if options.document is not None:
        put_into(options.document, plan, arms)
    if options.action != "report":
        print(document(plan, arms))
        return
    from moe_hub.experiments.report import report  # plotly

    out = options.out or Path(f"{plan.name}.html")
    try:
        out.write_bytes(report(plan, arms))
    except OSError as error:
        raise RunError(f"{out} cannot be written: {error.strerror}; choose another place with --out") from None
    print(out)


def _print_plan(ledger: Ledger, plan: Plan) -> None:
    for arm, seed in plan.cells():
        run = ledger.run(arm, seed)
        print(f"{arm:<24} seed {seed:<4} " + (f"{run.state():<12} {run.run_id}" if run else "to do"))


if __name__ == "__main__":
    sys.exit(main())
