"""`python -m moe_hub.data`: generate lambda tasks, inspect a data file, look after the token cache."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from moe_hub.data.cache import default_cache_dir, entries, purge
from moe_hub.errors import MoeHubError


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m moe_hub.data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_lambda(commands.add_parser("lambda", help="generate lambda-calculus tasks as JSONL"))
    _add_inspect(commands.add_parser("inspect", help="quality report: rows, duplicates, leakage, tokens"))
    _add_cache(commands.add_parser("cache", help="list or purge the token cache"))
    return parser


def _add_lambda(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, type=Path, metavar="F.jsonl", help="file to write, or - for the screen")
    parser.add_argument("--num", required=True, type=int, metavar="N", help="how many tasks")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default 0")
    parser.add_argument("--split", choices=("train", "val", "test"), default="train")
    parser.add_argument("--levels", default="1,2,3", help="such as 0,1,2 (default 1,2,3)")
    parser.add_argument("--min-size", type=int, default=5, help="nodes of a term (default 5)")
    parser.add_argument("--max-size", type=int, default=11, help="nodes of a term (default 11)")
    parser.add_argument("--layout", choices=("segments", "direct"), default="segments")
    parser.add_argument("--max-tokens", type=int, default=126, help="longest task (default 126)")


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a data file, or hub:owner/name")
    parser.add_argument(
        "--set", metavar="a.b=value", action="append", default=[], dest="overrides", help="one config key; repeatable"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the text")


def _add_cache(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    for name, text in (("list", "the entries"), ("purge", "delete entries: all, or those whose key begins with KEY")):
        action = actions.add_parser(name, help=text)
        action.add_argument("--cache-dir", type=Path, default=None, help=f"default: {default_cache_dir()}")
        action.add_argument("--json", action="store_true")
        if name == "purge":
            action.add_argument("keys", nargs="*", metavar="KEY")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 0, or 2 where the command line or the data cannot be used."""
    options = build_parser().parse_args(arguments)
    run = {"lambda": _generate, "inspect": _inspect, "cache": _cache}[options.command]
    try:
        return run(options)
    except MoeHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130


def _generate(options: argparse.Namespace) -> int:
    from moe_hub.data.generation import settings_from, write_tasks

    settings = settings_from(options.levels, options.min_size, options.max_size, options.layout, options.max_tokens)
    write_tasks(options.out, settings, options.split, options.seed, options.num, _progress())
    if str(options.out) != "-":
        print(f"{options.num} tasks of split {options.split} in {options.out}")
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from moe_hub.config import flatten, nest, parse_overrides, validate
    from moe_hub.data.inspection import as_text, inspect

    hub = options.file.startswith("hub:")
    place = (
        {"data.source": "hub", "data.name": options.file[4:]}
        if hub
        else {"data.source": "file", "data.path": options.file}
    )
    config = validate(nest(place | flatten(parse_overrides(options.overrides))))
    report = inspect(config, progress=_progress())
    print(json.dumps(report.to_dict(), indent=2) if options.json else as_text(report))
    return 0 if report.usable else 2


def _cache(options: argparse.Namespace) -> int:
    root = options.cache_dir or default_cache_dir()
    if options.action == "purge":
        count, size = purge(root, set(options.keys) or None)
        print(
            json.dumps({"entries": count, "bytes": size})
            if options.json
            else f"{count} entries, {size:,} bytes deleted"
        )
        return 0
    found = entries(root)
    if options.json:
        rows = [{"key": e.key, "bytes": e.size, "used": e.used, "parts": e.parts} for e in found]
        print(json.dumps({"folder": str(root), "entries": rows}, indent=2))
        return 0
    for entry in found:
        print(f"{entry.key[:12]}  {entry.size:>14,} bytes  {entry.parts['tokenizer']:<10}  {entry.parts['source']}")
    print(f"{len(found)} entries, {sum(entry.size for entry in found):,} bytes in {root}")
    return 0


class _progress:
    """Shows what is going on in one line, in a terminal only."""

    def __init__(self) -> None:
        self.shown = sys.stderr.isatty()

    def __call__(self, what: str, share: float) -> None:
        if self.shown:
            print(f"\r\033[K{what} {share:.0%}", end="\r", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
