"""The data that a person looks at before a run is made: its settings as a config, and the jobs on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from moe_hub.config import Config, flatten, nest, validate
from moe_hub.workbench.fields import form_fields, to_values


def data_config(asked: Mapping[str, Any], max_seq_len: int | None = None) -> Config:
    """A config with these data settings, by field name without its section; raises `ConfigError`.

    `max_seq_len` is that of the model, which generated tasks must fit into.
    """
    known = {f"data.{name}": value for name, value in asked.items() if f"data.{name}" in form_fields()}
    values = {path: value for path, value in to_values(known).items() if value not in (None, "")}
    if max_seq_len is not None:
        values["model.max_seq_len"] = max_seq_len
    return validate(nest({**values, "train.lambda_cognitive.enabled": False}))


def data_arguments(command: str, config: Config) -> list[str]:
    """The arguments of `python -m moe_hub.data inspect` or `prepare` for this data, which tell of their progress."""
    chosen, defaults = flatten(config.model_dump(mode="json")), flatten(Config().model_dump(mode="json"))
    arguments = [command, "--json-lines"]
    for path, value in chosen.items():
        if (path.startswith("data.") or path == "model.max_seq_len") and value != defaults[path]:
            arguments += ["--set", f"{path}={json.dumps(value)}"]
    return arguments
