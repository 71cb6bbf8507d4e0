"""`python -m moe_hub.export FORMAT RUN`: writes a run in the format of another program."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from moe_hub.errors import MoeHubError
from moe_hub.runs.store import RunStore

# Name -> module with export_run(run, folder).
FORMATS = {
    "tensorboard": "moe_hub.export.tensorboard",
    "wandb": "moe_hub.export.wandb",
    "model": "moe_hub.export.model",
}


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m moe_hub.export",
        description="Writes a run in the format of another program: its metrics as TensorBoard event files or as an "
        "offline run of Weights & Biases (nothing leaves this machine), its newest checkpoint as a model folder with "
        "a card, which transformers loads and the Hub takes.",
    )
    parser.add_argument("format", choices=list(FORMATS))
    parser.add_argument("run", metavar="RUN", help="a run id, the beginning of one, or latest")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="default: runs")
    parser.add_argument("--out", type=Path, help="an empty folder; default: FORMAT/RUN_ID beside the runs folder")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 0, or 2 where the run or the folder is unusable."""
    options = build_parser().parse_args(arguments)
    try:
        run = RunStore(options.runs_dir).find(options.run)
        folder = options.out or options.runs_dir.parent / options.format / run.run_id
        done = importlib.import_module(FORMATS[options.format]).export_run(run, folder)
    except MoeHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: the export cannot be written: {error}", file=sys.stderr)
        return 2
    print(done.told)
    if done.left_out:
        print(f"left out, for having too many entries: {', '.join(done.left_out)}")
    print(done.advice)
    return 0


if __name__ == "__main__":
    sys.exit(main())
