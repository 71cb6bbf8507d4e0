"""`moe-hub runs`: the runs of a folder as a table or as JSON."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Sequence

import orjson

from moe_hub.runs.files import plain
from moe_hub.runs.queue import RunQueue
from moe_hub.runs.status import STATES
from moe_hub.runs.store import RunStore, RunSummary
from moe_hub.terminal.command import guarded, runs_parser
from moe_hub.terminal.table import age, lay_out, number, one_line

SORT_KEYS = ("created", "name", "state", "step", "loss", "val-loss")
HEAD = ("RUN", "STATE", "STEP", "TRAIN LOSS", "VAL LOSS", "AGE", "LABEL AND TAGS")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = runs_parser("runs", "Lists the runs, newest first. Queued runs show their place in the queue.")
    parser.add_argument("--json", action="store_true", help="one JSON array, for other programs")
    parser.add_argument("--sort", choices=SORT_KEYS, default="created", help="default: created")
    parser.add_argument("--state", action="append", choices=STATES, help="only runs in this state; repeatable")
    parser.add_argument("--tag", action="append", help="only runs with this tag; repeatable")
    parser.add_argument("--trash", action="store_true", help="the deleted runs")
    options = parser.parse_args(arguments)

    def work() -> int:
        store = RunStore(options.runs_dir)
        summaries = (store.trash() if options.trash else store).list()
        wanted = [
            each for each in summaries
            if (not options.state or each.state in options.state) and set(options.tag or ()) <= set(each.tags)
        ]  # fmt: skip
        wanted = order(wanted, options.sort)
        if options.json:
            values = [{**dataclasses.asdict(each), "metrics": dict(each.metrics)} for each in wanted]
            print(orjson.dumps(plain(values), option=orjson.OPT_INDENT_2).decode())
        elif wanted:
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
            print("\n".join(table(wanted, RunQueue(options.runs_dir).waiting(), width)))
        else:
            print(f"no runs in {options.runs_dir}", file=sys.stderr)
        return 0

    return guarded(work)


def order(summaries: Sequence[RunSummary], key: str) -> list[RunSummary]:
    """Sorted; numbers and times the newest or smallest loss first, runs without the value last."""
    if key == "created":
        return list(summaries)  # they come newest first
    if key == "step":
        return sorted(summaries, key=lambda each: -each.step)
    if key in ("loss", "val-loss"):
        metric = "train/loss" if key == "loss" else "val/loss"
        return sorted(summaries, key=lambda each: _or_infinity(each.metrics.get(metric)))
    return sorted(summaries, key=lambda each: str(getattr(each, key)))


def table(summaries: Sequence[RunSummary], waiting: Sequence[str], width: int | None) -> list[str]:
    """The lines of the table; `waiting` are the ids in the queue, the next one first."""
    return lay_out([HEAD, *(_row(each, waiting) for each in summaries)], frozenset({2, 3, 4, 5}), width)


def _row(summary: RunSummary, waiting: Sequence[str]) -> tuple[str, ...]:
    place = f" {waiting.index(summary.run_id) + 1}" if summary.run_id in waiting else ""
    about = " ".join(filter(None, [one_line(summary.label), *(f"#{one_line(tag)}" for tag in summary.tags)]))
    return (
        summary.run_id,
        summary.state + place,
        f"{summary.step:,}/{summary.max_steps:,}",
        number(summary.metrics.get("train/loss")),
        number(summary.metrics.get("val/loss")),
        age(summary.created),
        about,
    )


def _or_infinity(value: float | None) -> float:
    return float("inf") if value is None or value != value else value
