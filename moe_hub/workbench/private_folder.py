"""A folder that only this user can open."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from moe_hub.errors import ConfigError


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
