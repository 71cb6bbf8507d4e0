"""`python -m moe_hub.web.worker --celery URL`: starts the runs that pages on other machines ask for.

Page and worker share the runs folder and the data folder (shared storage); the run is trained where the worker is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from moe_hub.data.folder import use_data_dir
from moe_hub.errors import MoeHubError

JOBS_AT_ONCE = 2


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m moe_hub.web.worker", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--celery", metavar="URL", required=True, help="as of the page: redis://127.0.0.1:6379/0")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="folder of the runs (default runs)")
    parser.add_argument("--data-dir", type=Path, help="uploads, presets, cache (default $MOE_HUB_DATA, else data)")
    parser.add_argument("--url-base-path", default="/", help="as of the page")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Works until Ctrl-C or SIGTERM; the exit code is 2 for an unusable address."""
    options = build_parser().parse_args(arguments)
    from moe_hub.web.app import create_dashboard

    try:
        app = create_dashboard(
            url_base_path=options.url_base_path, runs_dir=options.runs_dir, data_dir=use_data_dir(options.data_dir),
            celery=options.celery,
        )  # fmt: skip
    except MoeHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    # Building the app has registered its background callbacks as tasks.
    celery = app._background_manager.handle
    celery.worker_main(["worker", "--concurrency", str(JOBS_AT_ONCE), "--loglevel", "WARNING", "--without-mingle"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
