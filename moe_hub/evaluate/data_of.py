"""Which data a checkpoint is judged on: that of its own run, that of another run, or another source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moe_hub.config import Config, flatten, load_config, nest, parse_overrides, validate
from moe_hub.errors import ConfigError, RunError

# The config in a checkpoint, and in a run.
CONFIG_FILES = ("run_config.yaml", "config.yaml")


def config_of_data(place: Path, data: str | None = None, overrides: Sequence[str] = ()) -> Config:
    """The config of a checkpoint or run folder, with the data that is asked for; raises a `MoeHubError`.

    `data` is `lambda`, a file, or None for what the run was trained on; `overrides` change `data.` keys.
    """
    file = next((place / name for name in CONFIG_FILES if (place / name).is_file()), None)
    if file is None:
        raise RunError(f"checkpoint {place} has no {CONFIG_FILES[0]}, so its data is unknown; take one of a run")
    values = flatten(load_config(path=file).model_dump(mode="json"))
    if data == "lambda":
        values |= {"data.source": "lambda"}
    elif data is not None:
        values |= {"data.source": "file", "data.path": data}
    changed = flatten(parse_overrides(overrides))
    wrong = [key for key in changed if not key.startswith("data.")]
    if wrong:
        raise ConfigError(f"--set {wrong[0]}: only data. keys can differ from the checkpoint's config")
    return validate(nest(values | changed))


def described(config: Config) -> str:
    """The data in a few words."""
    data = config.data
    if data.source != "lambda":
        return str(data.path or data.name or data.mixture)
    levels = ", ".join(f"L{level}" for level in data.levels)
    return f"lambda {levels}, {data.min_term_size} to {data.max_term_size} nodes, {data.layout}, {data.lambda_held_out}"
