"""A person's own presets: one YAML file each in the data folder, beside the shipped ones."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from moe_hub.config import Config, flatten, load_config, preset_names, to_yaml, validate
from moe_hub.config.text import parse_yaml
from moe_hub.errors import ConfigError
from moe_hub.runs.files import replace_file

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
FIRST_PRESET = "geometric_lambda"  # what a form begins with
MOST_BYTES = 1 << 18
MOST_PRESETS = 500


class PresetStore:
    """Shipped presets can be read; own ones also saved, renamed and deleted. All raise `ConfigError`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def own(self) -> list[str]:
        """Names of the person's presets, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.yaml") if _NAME.fullmatch(path.stem) and _own(path))

    def values(self, name: str) -> dict[str, Any]:
        """Flat config values of a shipped or own preset."""
        if name in preset_names():
            config = load_config(preset=name)
        else:
            config = load_config(path=self.file(name))
        return flatten(config.model_dump(mode="json"))

    def file(self, name: str) -> Path:
        """The file of an own preset that exists."""
        path = self._path(name)
        if not _own(path):
            raise ConfigError(f"preset {name!r} does not exist; own presets: {', '.join(self.own()) or 'none yet'}")
        return path

    def save(self, name: str, config: Config, *, replace: bool = True) -> None:
        """Writes an own preset; a shipped one's name is refused."""
        path = self._path(name)
        if name in preset_names():
            raise ConfigError(f"preset name {name!r} is taken by a shipped preset; choose another")
        if not replace and path.exists():
            raise ConfigError(f"preset {name!r} exists; choose another name or delete that one first")
        if len(self.own()) >= MOST_PRESETS and not path.exists():
            raise ConfigError(f"there are {MOST_PRESETS} own presets already; delete some")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(path, to_yaml(config).encode())
        except OSError as error:
            raise ConfigError(f"preset {name!r} cannot be written to {self.folder}: {error.strerror}") from None

    def rename(self, name: str, new_name: str) -> None:
        """Gives an own preset another free name."""
        source, target = self.file(name), self._path(new_name)
        if new_name in preset_names() or target.exists():
            raise ConfigError(f"preset name {new_name!r} is taken; choose another")
        source.rename(target)

    def delete(self, name: str) -> None:
        """Removes an own preset."""
        if name in preset_names():
            raise ConfigError(f"preset {name!r} is shipped and cannot be deleted")
        with contextlib.suppress(FileNotFoundError):
            self.file(name).unlink()

    def _path(self, name: str) -> Path:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(f"preset name {name!r}: use 1 to 40 letters, digits, - and _, beginning with a letter")
        return self.folder / f"{name}.yaml"


def _own(path: Path) -> bool:
    """Whether the file lies here itself; a link may lead anywhere."""
    return path.is_file() and not path.is_symlink()


def read_preset_text(text: str) -> Config:
    """The config of a YAML text that a person brings; raises `ConfigError`."""
    if len(text.encode()) > MOST_BYTES:
        raise ConfigError(f"this file has more than {MOST_BYTES // 1024} kB; a preset is a short YAML file")
    try:
        values = parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"this is not YAML: {error}") from None
    if not isinstance(values, Mapping):
        raise ConfigError("a preset is a mapping of keys, such as `model: {num_experts: 4}`")
    return validate(values)
