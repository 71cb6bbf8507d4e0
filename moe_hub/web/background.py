"""The store of background callbacks: diskcache in a folder that only this user can open, because it unpickles."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from moe_hub.errors import ConfigError

FOLDER = ".background"


def manager(data_dir: Path) -> Any:
    """Dash's DiskcacheManager on a private folder under the data folder; raises `ConfigError`."""
    import diskcache
    from dash import DiskcacheManager

    return DiskcacheManager(diskcache.Cache(str(private_folder(data_dir / FOLDER))))


def private_folder(folder: Path) -> Path:
    """Makes the folder with mode 0700, or checks that it is this user's own and no link; raises `ConfigError`."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        info = folder.lstat()
        if not stat.S_ISDIR(info.st_mode) or (hasattr(os, "getuid") and info.st_uid != os.getuid()):
            raise ConfigError(f"{folder} must be a folder of this user: remove it, or choose another --data-dir")
        folder.chmod(0o700)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}; choose another --data-dir") from None
    return folder
