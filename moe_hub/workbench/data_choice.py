"""The data that a person looks at before a run is made: its settings as a config, and the command that inspects it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moe_hub.config import Config, nest, validate
from moe_hub.errors import DataError
from moe_hub.workbench.fields import form_fields, to_values


def data_config(asked: Mapping[str, Any]) -> Config:
    """A config with these data settings, by field name without its section; raises `ConfigError`."""
    known = {f"data.{name}": value for name, value in asked.items() if f"data.{name}" in form_fields()}
    values = {path: value for path, value in to_values(known).items() if value not in (None, "")}
    return validate(nest({**values, "train.lambda_cognitive.enabled": False}))


def inspect_arguments(config: Config) -> list[str]:
    """The arguments of `python -m moe_hub.data inspect` for this data."""
    data = config.data
    if data.source not in ("file", "hub"):
        raise DataError("choose a file or a Hub dataset to inspect")
    source = data.path if data.source == "file" else f"hub:{data.name}"
    defaults = Config().data
    arguments = ["inspect", "--json"]
    for name in type(data).model_fields:
        value = getattr(data, name)
        if name not in ("source", "path", "name") and value != getattr(defaults, name):
            arguments += ["--set", f"data.{name}={value}"]
    return [*arguments, "--", str(source)]
