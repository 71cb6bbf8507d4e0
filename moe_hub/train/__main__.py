"""`python -m moe_hub.train`: trains a model from a preset, a config file and overrides."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moe_hub.config import Config, preset_names, resolve, to_yaml
from moe_hub.config.reference import help_lines
from moe_hub.errors import ConfigError, MoeHubError
from moe_hub.imports import uncollected
from moe_hub.runs.fork import fork
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.train.parallel.launching import supervise, under_torchrun

if TYPE_CHECKING:
    from moe_hub.ranks import Ranks


def build_parser() -> argparse.ArgumentParser:
    """The command line; every config key is a `--set`."""
    parser = argparse.ArgumentParser(
        prog="python -m moe_hub.train",
        description="Trains a model; ends with the run's directory and its final metrics.",
        epilog="Ctrl-C or SIGTERM saves and stops; a second Ctrl-C stops at once.\n"
        "Exit code: 0 finished or stopped on request, 1 failed, 2 bad usage, config or data.\n\n"
        f"config keys for --set, with their defaults (bounds: docs/config.md):\n{help_lines()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", metavar="NAME", help=f"one of: {', '.join(preset_names())}")
    parser.add_argument("--config", metavar="FILE.yaml", type=Path, help="a config file; it wins over the preset")
    parser.add_argument(
        "--set", metavar="a.b=value", action="append", default=[], dest="overrides", help="one config key; repeatable"
    )
    parser.add_argument("--runs-dir", metavar="DIR", type=Path, default=Path("runs"), help="default: runs")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--resume", metavar="RUN_ID", help="go on with a run from its last checkpoint")
    begin.add_argument("--fork", metavar="RUN_ID[@STEP]", help="a new run that begins at a checkpoint of another")
    begin.add_argument("--adopt", metavar="RUN_ID", help=argparse.SUPPRESS)  # the launcher has made the run
    begin.add_argument("--print-config", action="store_true", help="print the resolved config and exit")
    begin.add_argument("--dry-run", action="store_true", help="check config, parameters and data, and exit")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    options = build_parser().parse_args(arguments)
    try:
        if options.print_config:
            resolved = resolve(options.preset, options.config, options.overrides)
            print(to_yaml(resolved.config, resolved.sources), end="")
            return 0
        if options.dry_run:
            return _dry_run(resolve(options.preset, options.config, options.overrides).config)
        if under_torchrun():
            return _train_together(options)
        run = _run_of(options)
        processes = run.config().train.parallel.processes
    except MoeHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2  # nothing was started: the command line, the config or the data is to be mended
    if processes > 1:
        begin = ["--resume" if options.resume else "--adopt", run.run_id]
        try:
            return supervise(run, processes, ["--runs-dir", str(options.runs_dir), *begin])
        except MoeHubError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
    return _train(run, resume=options.resume is not None)


def _train_together(options: argparse.Namespace) -> int:
    """As one of torchrun's processes: rank 0 finds or makes the run, and writes it."""
    with uncollected():
        from moe_hub.train.parallel.group import joined

    with joined() as ranks:
        try:
            run = ranks.on_main(lambda: _run_of(options))
        except MoeHubError as error:
            if ranks.main:
                print(f"error: {error}", file=sys.stderr)
            return 2
        if code := _train(run, resume=options.resume is not None, ranks=ranks):
            sys.exit(code)  # leaves at once: the others may be gone
    return 0


def _run_of(options: argparse.Namespace) -> RunDirectory:
    """The run that the options name, made where it is new; raises `MoeHubError`."""
    store = RunStore(options.runs_dir)
    named = options.resume or options.adopt
    if (named or options.fork) and (options.preset or options.config):
        raise ConfigError("--preset and --config make a new run; a run that exists brings its own config")
    if options.fork:
        return fork(store, options.fork, options.overrides)
    if named:
        if options.overrides:
            raise ConfigError("--set cannot change a run that exists; use --fork RUN_ID to train on with other values")
        return store.find(named)
    if options.preset is None and options.config is None and not options.overrides:
        raise ConfigError(f"nothing to train: give --preset NAME ({', '.join(preset_names())}) or --config FILE.yaml")
    return store.create(resolve(options.preset, options.config, options.overrides).config)


def _train(run: RunDirectory, *, resume: bool, ranks: Ranks | None = None) -> int:
    with uncollected():
        from moe_hub.ranks import ALONE
        from moe_hub.train.session import run_training

    ranks = ranks or ALONE
    try:
        run_training(run, resume=resume, ranks=ranks)
    except MoeHubError as error:
        if ranks.main:
            print(f"error: {error}\nrun: {run.path}", file=sys.stderr)
        return error.exit_code
    except Exception:  # said, with its traceback, by the run's record
        if ranks.main:
            print(f"run: {run.path}", file=sys.stderr)
        return 1
    if ranks.main:
        _print_end(run)
    return 0


def _print_end(run: RunDirectory) -> None:
    status = run.status()
    if status is None:
        return
    print(f"{status.state} at step {status.step} of {status.max_steps}" + _because(status.exit_reason))
    for name in sorted(status.metrics):
        if name.startswith(("train/loss", "val/", "lambda/exact_match/", "loss/")):
            print(f"  {name:<32} {status.metrics[name]:.4f}")
    print(f"run: {run.path}")


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def _dry_run(config: Config) -> int:
    from moe_hub.architectures import count_parameters

    with uncollected():
        from moe_hub.train.session import build_parts

    parts = build_parts(config)
    built = sum(parameter.numel() for parameter in parts.model.parameters())
    counts = count_parameters(config.model, parts.data.tokenizer.vocab_size)
    print(f"config       valid; architecture {config.model.architecture}, device {parts.device}")
    print(f"parameters   {built:,} in all, {counts.active:,} used for one token")
    for part, count in counts.parts.items():
        print(f"  {part:<11}{count:>14,}")
    print(f"vocabulary   {parts.data.tokenizer.vocab_size}")
    print(f"data         {parts.data.tokens_per_epoch:,} tokens, {parts.data.batches_per_epoch:,} batches an epoch")
    for name, value in parts.data.facts.items():
        print(f"  {name:<24} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
