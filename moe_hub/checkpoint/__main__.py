"""`python -m moe_hub.checkpoint convert CHECKPOINT ...`: a checkpoint in shards becomes one of one process."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from moe_hub.errors import MoeHubError


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m moe_hub.checkpoint")
    actions = parser.add_subparsers(dest="action", required=True)
    convert = actions.add_parser(
        "convert",
        help="bring the shards of a training with FSDP into the layout of one process",
        description="Brings the moments of a checkpoint that FSDP wrote in shards into optimizer.safetensors, and "
        "removes the shards. The weights in model.safetensors are there already. Training goes on from either layout, "
        "on any number of processes.",
    )
    convert.add_argument(
        "checkpoints", metavar="CHECKPOINT", nargs="+", type=Path, help="a folder checkpoints/step_..."
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0, or 1 where a checkpoint cannot be converted."""
    options = build_parser().parse_args(arguments)
    from moe_hub.checkpoint import convert

    try:
        for folder in options.checkpoints:
            print(f"{folder}: {'converted' if convert(folder) else 'is in the layout of one process already'}")
    except MoeHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
