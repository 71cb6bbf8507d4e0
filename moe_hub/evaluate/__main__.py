"""`python -m moe_hub.evaluate CHECKPOINT`: loss, perplexity and exact match of a trained model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moe_hub.errors import MoeHubError
from moe_hub.imports import uncollected
from moe_hub.lambda_calculus import OOD_SETS

COMPARED = ("loss", "loss_minus_first", "perplexity", "bits_per_byte", "exact_match")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m moe_hub.evaluate",
        description="Loss and perplexity on held-out data; for lambda-calculus tasks also what the model answers, "
        "judged by the evaluator, with Wilson 95 % intervals.",
    )
    parser.add_argument(
        "checkpoints",
        type=Path,
        nargs="+",
        metavar="CHECKPOINT",
        help="a checkpoint folder: runs/RUN_ID/checkpoints/step_00000600; several are compared on the same data",
    )
    parser.add_argument("--data", default=None, help="lambda, or a data file; default: the data it was trained on")
    parser.add_argument(
        "--data-of",
        type=Path,
        default=None,
        metavar="RUN",
        help="the held-out data of another run or checkpoint; for several checkpoints the first one's by default",
    )
    parser.add_argument(
        "--set",
        metavar="data.b=value",
        action="append",
        default=[],
        dest="overrides",
        help="one key of the data config",
    )
    parser.add_argument("--num", type=int, default=2000, help="lambda tasks to answer (default 2000)")
    parser.add_argument(
        "--ood",
        nargs="+",
        choices=tuple(OOD_SETS),
        default=[],
        help="answer lambda tasks outside the training range, too: "
        + "; ".join(f"{name}: {row.title}" for name, row in OOD_SETS.items()),
    )
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 0, or 2 where checkpoint or data are unusable."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.num < 1 or options.batch_size < 1:
        parser.error("--num and --batch-size must be at least 1")
    several = len(options.checkpoints) > 1 or options.data_of is not None
    if several and options.ood:
        parser.error("--ood goes with one checkpoint")
    try:
        print(_comparison(options) if several else _report(options))
    except MoeHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def progress(text: str) -> None:
    """Says what is being done on a terminal, on one line that the next replaces."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _comparison(options: argparse.Namespace) -> str:
    with uncollected():
        from moe_hub.evaluate.data_of import config_of_data, described
        from moe_hub.evaluate.same_data import compare_on, summary

    reference = config_of_data(options.data_of or options.checkpoints[0], options.data, options.overrides)
    results = summary(list(compare_on(options.checkpoints, reference, progress=progress)))
    progress("")
    if options.json:
        return json.dumps({"data": described(reference), "checkpoints": results})
    return comparison_table(described(reference), results)


def _report(options: argparse.Namespace) -> str:
    with uncollected():
        from moe_hub.evaluate.report import evaluate_checkpoint

    found = evaluate_checkpoint(
        options.checkpoints[0],
        options.data,
        options.overrides,
        num_tasks=options.num,
        ood=options.ood,
        batch_size=options.batch_size,
        progress=progress,
    )
    progress("")
    return json.dumps(found, indent=2) if options.json else table(found)


def table(found: dict[str, Any]) -> str:
    """The report as text; shares with their intervals."""
    lines = [f"checkpoint  {found['checkpoint']}", f"data        {found['data']}"]
    shown = ("loss", "perplexity", "token_accuracy", "exact_match")
    lines += [f"{name:<24}{found[name]:.4f}" for name in shown if name in found]
    for label in (name for name in found if name == "tasks" or name.startswith("out of distribution")):
        lines += ["", label] if label != "tasks" else []
        lines += _counts(found[label])
    return "\n".join(lines)


def _counts(tasks: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for name, value in tasks.items():
        if "share" in value:
            lines.append(_share(name, value))
            continue
        lines.append(name)
        lines += [_share(f"  {key}", count) for key, count in value.items()]
    return lines


def comparison_table(data: str, lines: Sequence[dict[str, Any]]) -> str:
    """Checkpoints below each other; each number with its 95 % interval."""
    shown = [f"data  {data}, {lines[0]['rows']:,} rows, {lines[0]['samples']:,} samples with an answer"]
    if lines[0]["loss"] is None:
        shown.append("loss and perplexity do not compare: the checkpoints have different tokens")
    for line in lines:
        shown += ["", f"checkpoint  {line['checkpoint']}", f"{'tokens':<24}{line['tokens']:,}"]
        shown += [_interval(name, line[name]) for name in COMPARED if line.get(name)]
    return "\n".join(shown)


def _interval(name: str, value: Sequence[float | None]) -> str:
    if value[1] is None:
        return f"{name:<24}{value[0]:.4f}"
    return f"{name:<24}{value[0]:.4f}  95 % [{value[1]:.4f}, {value[2]:.4f}]"


def _share(name: str, count: dict[str, float]) -> str:
    interval = f"[{count['low']:.4f}, {count['high']:.4f}]"
    return f"{name:<24}{count['share']:.4f}  95 % {interval}  {count['hits']:.0f} of {count['trials']:.0f}"


if __name__ == "__main__":
    sys.exit(main())
