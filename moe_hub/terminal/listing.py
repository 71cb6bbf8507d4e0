"""`moe-hub runs`: the runs of a folder as a table or as JSON. `moe-hub tag`: gives a run its tags."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from moe_hub.runs.status import STATES
from moe_hub.terminal.command import find, guarded, open_store, runs_parser
from moe_hub.terminal.table import age, lay_out, number, one_line

if TYPE_CHECKING:
    from moe_hub.runs.store import RunSummary

SORT_KEYS = ("created", "name", "state", "step", "loss", "val-loss")
HEAD = ("RUN", "STATE", "STEP", "TRAIN LOSS", "VAL LOSS", "AGE", "LABEL AND TAGS")


def build_parser(name: str = "runs") -> argparse.ArgumentParser:
    """The command line of `runs` or `tag`."""
    if name == "tag":
        parser = runs_parser("tag", "Replaces the tags of a run; without a TAG it has none.", run=True)
        parser.add_argument("tags", metavar="TAG", nargs="*", help="a word; several runs may share it")
        return parser
    parser = runs_parser("runs", "Lists the runs, newest first. Queued runs show their place in the queue.")
    parser.add_argument("--json", action="store_true", help="one JSON array, for other programs")
    parser.add_argument("--sort", choices=SORT_KEYS, default="created", help="default: created")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument("--filter", metavar="TEXT", default="", help="only runs with TEXT in id, label, tags or kind")
    parser.add_argument("--state", action="append", choices=STATES, help="only runs in this state; repeatable")
    parser.add_argument("--tag", action="append", help="only runs with this tag; repeatable")
    parser.add_argument("--trash", action="store_true", help="the deleted runs")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Runs the command that is named first and returns its exit code."""
    name, *rest = arguments
    options = build_parser(name).parse_args(rest)
    return guarded(lambda: _tag(options) if name == "tag" else _list(options))


def _tag(options: argparse.Namespace) -> int:
    store = open_store(options.runs_dir)
    run = find(store, options.run)
    store.tag(run.run_id, options.tags)
    print(
        f"{run.run_id}: {' '.join(f'#{one_line(tag)}' for tag in store.open(run.run_id).notes()['tags']) or 'no tags'}"
    )
    return 0


def _list(options: argparse.Namespace) -> int:
    store = open_store(options.runs_dir)
    summaries = (store.trash() if options.trash else store).list()
    wanted = [
        each for each in summaries
        if (not options.state or each.state in options.state) and set(options.tag or ()) <= set(each.tags)
    ]  # fmt: skip
    wanted = order(matching(wanted, options.filter), options.sort)
    if options.reverse:
        wanted.reverse()
    if options.json:
        import orjson

        from moe_hub.runs.files import plain

        values = [{**dataclasses.asdict(each), "metrics": dict(each.metrics)} for each in wanted]
        print(orjson.dumps(plain(values), option=orjson.OPT_INDENT_2).decode())
    elif wanted:
        from moe_hub.runs.queue import RunQueue

        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print("\n".join(table(wanted, RunQueue(options.runs_dir).waiting(), width)))
    else:
        print(f"no runs in {options.runs_dir}" + (" that fit" if summaries else ""), file=sys.stderr)
    return 0


def matching(summaries: Sequence[RunSummary], text: str) -> list[RunSummary]:
    """The runs that have each word of the text in their id, name, label, tags, state or architecture."""
    words = text.lower().split()
    return [
        each for each in summaries
        if all(word in " ".join([each.run_id, each.name, each.label, *each.tags, each.state, each.architecture]).lower()
               for word in words)
    ]  # fmt: skip


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
    about = " ".join(filter(None, [one_line(summary.label), *(f"#{one_line(tag)}" for tag in summary.tags),
                                  one_line(summary.problem)]))  # fmt: skip
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
