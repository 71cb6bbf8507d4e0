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
from moe_hub.experiments.results import collect, markdown
from moe_hub.runs.status import LIVE_STATES

POLL_S = 2.0
WAITING = LIVE_STATES | {"queued"}


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m moe_hub.experiments",
        description="Compares arms over seeds: runs go through the queue, and one table comes out. "
        "Stopped by Ctrl-C, it goes on where it was when it is run again.",
    )
    parser.add_argument("action", choices=("run", "table", "plan"), help="run: train what is missing, then the table")
    parser.add_argument("file", type=Path, help="the plan, such as configs/experiments/one_step.yaml")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="default: runs")
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
    try:
        if options.action == "run":
            run_plan(ledger, plan)
    except MoeHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("left; what is queued goes on, and the same command takes it up again", file=sys.stderr)
        return 0
    _print_table(ledger, plan)
    return 0


def run_plan(ledger: Ledger, plan: Plan) -> None:
    """Queues every cell that has no finished run and waits for all; raises `RunError` where one fails."""
    ledger.store.runs_dir.mkdir(parents=True, exist_ok=True)
    for arm, seed in plan.cells():
        if ledger.run(arm, seed) is None:
            ledger.record(arm, seed, launch.enqueue(ledger.store.runs_dir, plan.config(arm, seed)))
    for arm, seed in plan.cells():
        _wait(ledger, arm, seed)


def _wait(ledger: Ledger, arm: str, seed: int) -> None:
    run = ledger.run(arm, seed)
    if run is None:
        raise RunError(f"experiment {ledger.plan.name}: the run of {arm}, seed {seed} is gone; run the command again")
    if run.state() in ("interrupted", "stopped"):
        launch.start(run.path, resume=True)
    shown = ""
    while (state := run.state()) in WAITING:
        if state == "queued":
            launch.start_queue(ledger.store.runs_dir)  # does nothing where a worker is at it
        status = run.status()
        line = f"{arm}, seed {seed}: {state}" + (f", step {status.step} of {status.max_steps}" if status else "")
        if line != shown:
            terminal = sys.stderr.isatty()
            print(f"\r\033[K{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
            shown = line
        time.sleep(POLL_S)
    if state != "finished":
        status = run.status()
        reason = status.exit_reason if status else "no status"
        raise RunError(f"run {run.run_id} ({arm}, seed {seed}) is {state}: {reason}; mend it, then run this again")


def _print_plan(ledger: Ledger, plan: Plan) -> None:
    for arm, seed in plan.cells():
        run = ledger.run(arm, seed)
        print(f"{arm:<24} seed {seed:<4} " + (f"{run.state():<12} {run.run_id}" if run else "to do"))


def _print_table(ledger: Ledger, plan: Plan) -> None:
    lines = collect(ledger, plan)
    print(f"\n{plan.name}: {plan.question}\nMean ± half width of the 95 % interval over seeds {list(plan.seeds)}.\n")
    print(markdown(lines, list(plan.metrics)))
    for line in lines:
        print(f"{line.arm}: {', '.join(line.run_ids)}")


if __name__ == "__main__":
    sys.exit(main())
