"""`moe-hub diff RUN RUN`: what differs between two runs, in config and in last metrics."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from moe_hub.terminal.command import find, guarded, open_store, runs_parser
from moe_hub.terminal.table import lay_out, number, one_line

if TYPE_CHECKING:
    from moe_hub.runs.store import RunDirectory

_STAMP = ("schema_version", "version")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = runs_parser("diff", "Compares the config and the last metrics of two runs.", run=True)
    parser.add_argument("other", metavar="RUN", help="the run to compare it with")
    parser.add_argument("--json", action="store_true", help="one JSON object, for other programs")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0 also where they differ."""
    options = build_parser().parse_args(arguments)

    def work() -> int:
        store = open_store(options.runs_dir)
        pair = find(store, options.run), find(store, options.other)
        if options.json:
            import orjson

            from moe_hub.runs.files import plain

            config, metrics = config_difference(*pair), metric_table(*pair)
            found = {"runs": [run.run_id for run in pair], "config": config, "metrics": metrics}
            print(orjson.dumps(plain(found), option=orjson.OPT_INDENT_2).decode())
        else:
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
            print("\n".join(comparison(*pair, width)))
        return 0

    return guarded(work)


def config_difference(first: RunDirectory, second: RunDirectory) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with both; None where a run has no such key. Raises `RunError`."""
    from moe_hub.config import flatten

    left, right = flatten(first.config_values()), flatten(second.config_values())
    keys = [key for key in {**left, **right} if key not in _STAMP]
    return {key: (left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)}


def metric_table(first: RunDirectory, second: RunDirectory) -> dict[str, tuple[float | None, float | None]]:
    """Last value of each scalar metric that either run has logged, with both."""
    left, right = ((status.metrics if (status := run.status()) else {}) for run in (first, second))
    return {name: (left.get(name), right.get(name)) for name in sorted({**left, **right})}


def comparison(first: RunDirectory, second: RunDirectory, width: int | None) -> list[str]:
    """Both tables as lines, cut at `width` characters; raises `RunError`."""
    config, metrics = config_difference(first, second), metric_table(first, second)
    head = (first.run_id, second.run_id)
    lines = ["the configs are the same"]
    if config:
        rows = [(key, one_line(str(left)), one_line(str(right))) for key, (left, right) in config.items()]
        lines = lay_out([("CONFIG", *head), *rows], width=width)
    if metrics:
        changes = [(name, number(a), number(b), _change(a, b)) for name, (a, b) in metrics.items()]
        lines += ["", *lay_out([("LAST METRIC", *head, "CHANGE"), *changes], frozenset({1, 2, 3}), width)]
    return lines


def _change(left: float | None, right: float | None) -> str:
    return "" if left is None or right is None else f"{right - left:+.4g}"
