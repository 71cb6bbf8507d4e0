"""The folder of uploads, presets and the token cache, for this process and for the trainers that it starts."""

from __future__ import annotations

import os
from pathlib import Path

DATA_VARIABLE = "MOE_HUB_DATA"


def data_dir() -> Path:
    """$MOE_HUB_DATA, else `data` in the current folder."""
    return Path(os.environ.get(DATA_VARIABLE) or "data")


def use_data_dir(chosen: Path | None) -> Path:
    """The folder of a `--data-dir` flag, which goes before the variable; what is started from here uses it too."""
    folder = chosen or data_dir()
    os.environ[DATA_VARIABLE] = str(folder.resolve())
    return folder
