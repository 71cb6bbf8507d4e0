"""The store of background callbacks: diskcache in a folder that only this user can open, because it unpickles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moe_hub.workbench.private_folder import private_folder

FOLDER = ".background"


def manager(data_dir: Path) -> Any:
    """Dash's DiskcacheManager on a private folder under the data folder; raises `ConfigError`."""
    import diskcache
    from dash import DiskcacheManager

    return DiskcacheManager(diskcache.Cache(str(private_folder(data_dir / FOLDER))))
