"""What an export says when it is done, and the folder it goes to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moe_hub.errors import RunError


@dataclass(frozen=True)
class Exported:
    """What was written, which metrics were left out for their size, and what to do next."""

    told: str
    left_out: tuple[str, ...]
    advice: str


def empty_folder(folder: Path) -> None:
    """Makes the folder; raises `RunError` where something lies in it, which the other program would mix in."""
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"folder {folder} is not empty; the export would mix two runs, so give another with --out")
    folder.mkdir(parents=True, exist_ok=True)
