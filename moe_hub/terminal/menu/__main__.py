"""`python -m moe_hub.terminal.menu`: the full-screen program itself; `moe-hub menu` starts and guards it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from moe_hub.data.folder import use_data_dir
from moe_hub.terminal.full_screen import JOBS_VARIABLE, build_parser
from moe_hub.terminal.menu.app import MenuApp
from moe_hub.terminal.menu.bench import open_bench


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the menu to its end and returns the exit code."""
    options = build_parser().parse_args(arguments)
    # The token cache of this menu, and of the trainers that it starts, lies in its data folder, as with the page.
    data_dir = use_data_dir(options.data_dir)
    with tempfile.TemporaryDirectory(prefix="moe-hub-menu-") as own:
        jobs = Path(os.environ.get(JOBS_VARIABLE) or own)
        app = MenuApp(open_bench(options.runs_dir, data_dir, jobs), light=options.light)
        app.run()
    return app.return_code or 0


if __name__ == "__main__":
    sys.exit(main())
