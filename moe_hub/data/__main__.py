"""`python -m moe_hub.data`: generate lambda tasks, inspect or prepare data, look after the token cache."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from moe_hub.data.cache import default_cache_dir, entries, purge
from moe_hub.errors import MoeHubError

if TYPE_CHECKING:
    from moe_hub.config import Config

TELL_S = 0.2


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m moe_hub.data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_lambda(commands.add_parser("lambda", help="generate lambda-calculus tasks as JSONL"))
    _add_source(commands.add_parser("inspect", help="quality report: rows, duplicates, leakage, tokens"))
    _add_source(commands.add_parser("prepare", help="fill the token cache, so that a training begins at once"))
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


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="?", help="a data file, or hub:owner/name; without it what --set data.source says"
    )
    parser.add_argument(
        "--set", metavar="a.b=value", action="append", default=[], dest="overrides", help="one config key; repeatable"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the text")
    parser.add_argument("--json-lines", action="store_true", help="progress and result as JSON objects, one a line")


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
    run = {"lambda": _generate, "inspect": _inspect, "prepare": _prepare, "cache": _cache}[options.command]
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return run(options)
    except MoeHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except MemoryError:
        print(
            "error: not enough memory; the plan of an epoch takes about 45 bytes for each document or piece of text: "
            "set data.num_train_samples lower, or close other programs",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def _generate(options: argparse.Namespace) -> int:
    from moe_hub.data.generation import settings_from, write_tasks

    settings = settings_from(options.levels, options.min_size, options.max_size, options.layout, options.max_tokens)
    write_tasks(options.out, settings, options.split, options.seed, options.num, _progress())
    if str(options.out) != "-":
        print(f"{options.num} tasks of split {options.split} in {options.out}")
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from moe_hub.data.inspection import as_text, inspect

    report = inspect(_config(options), progress=_progress(json_lines=options.json_lines))
    if options.json_lines:
        print(json.dumps({"report": report.to_dict()}), flush=True)
    else:
        print(json.dumps(report.to_dict(), indent=2) if options.json else as_text(report))
    return 0 if report.usable else 2


def _prepare(options: argparse.Namespace) -> int:
    from moe_hub.data.corpus import open_corpus

    facts = open_corpus(_config(options), progress=_progress(json_lines=options.json_lines)).facts
    found = {
        "hit": facts["cache_hit"],
        "reason": facts["cache_reason"],
        "key": facts["cache_key"],
        "bytes": facts["cache_bytes"],
        "tokens": facts["stored_tokens"],
        "seconds": facts["cache_seconds"],
    }
    if options.json_lines:
        print(json.dumps({"prepared": found}), flush=True)
    elif options.json:
        print(json.dumps(found, indent=2))
    else:
        hit = "hit" if found["hit"] else "miss, prepared now"
        print(f"{hit}: {found['reason']}\n{found['tokens']:,} tokens, {found['bytes']:,} bytes, key {found['key']}")
    return 0


def _config(options: argparse.Namespace) -> Config:
    """The config of a data file or Hub dataset and the overrides; raises `ConfigError`."""
    from moe_hub.config import flatten, nest, parse_overrides, validate

    place = {}
    if options.file and options.file.startswith("hub:"):
        place = {"data.source": "hub", "data.name": options.file[4:]}
    elif options.file:
        place = {"data.source": "file", "data.path": options.file}
    return validate(nest(place | flatten(parse_overrides(options.overrides))))


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
    """Shows what is going on: in one line of a terminal, or as JSON lines."""

    def __init__(self, *, json_lines: bool = False) -> None:
        self.json_lines = json_lines
        self.shown = json_lines or sys.stderr.isatty()
        self.last = 0.0
        self.phase = ""

    def __call__(self, what: str, share: float) -> None:
        phase = what.partition(",")[0]
        if not self.shown or (phase == self.phase and time.monotonic() - self.last < TELL_S):
            return
        self.last, self.phase = time.monotonic(), phase
        if self.json_lines:
            print(json.dumps({"phase": what, "share": round(share, 4)}), flush=True)
        else:
            print(f"\r\033[K{what} {share:.0%}", end="\r", file=sys.stderr, flush=True)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt  # so that what is half done is cleared away


if __name__ == "__main__":
    sys.exit(main())
