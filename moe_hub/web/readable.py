"""Which files of this machine the page may name as data or tokenizer: those in the data folder, and in folders that
the person who started the server named. Links that lead out are refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from moe_hub.config import Config
from moe_hub.config.data import HUB_ID, mixture_parts
from moe_hub.errors import ConfigError


class ReadableFolders:
    """`problems` and `require` judge the paths in a config; a path is relative to where the server was started."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = [Path(folder) for folder in folders]

    def problems(self, config: Config) -> dict[str, str]:
        """A message for each field that names a file outside the folders."""
        return {field: self._message(text) for field, text in _paths(config) if not self._inside(text)}

    def require(self, config: Config) -> Config:
        """The config; raises `ConfigError` where it names a file outside."""
        for field, message in self.problems(config).items():
            raise ConfigError(f"{field}: {message}")
        return config

    def _inside(self, text: str) -> bool:
        try:
            place = Path(text).expanduser().resolve()
            return any(place.is_relative_to(folder.resolve()) for folder in self.folders)
        except (OSError, ValueError, RuntimeError):  # a name too long, a null byte, a loop of links, no such home
            return False

    def _message(self, text: str) -> str:
        where = ", ".join(str(folder.resolve()) for folder in self.folders)
        return (
            f"{text[:200]!r} is outside the folders that the page may read ({where}); upload the file, or start the "
            "page with --read-dir FOLDER"
        )


def _paths(config: Config) -> Iterator[tuple[str, str]]:
    data = config.data
    if data.source == "file" and data.path:
        yield "data.path", data.path
    for part in mixture_parts(data):
        if part.source == "file":
            yield "data.mixture", part.place
    tokenizer = data.tokenizer_path if data.tokenizer == "pretrained" else None
    # A name such as owner/name is one of the Hub, unless such a folder stands here.
    if tokenizer and (not re.fullmatch(HUB_ID, tokenizer) or Path(tokenizer).exists()):
        yield "data.tokenizer_path", tokenizer
