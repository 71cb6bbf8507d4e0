"""Plans: YAML files that describe many runs, such as an experiment or a sweep; each run is an ordinary config."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from moe_hub.config import Config, load_config
from moe_hub.config.schema import Section, did_you_mean
from moe_hub.config.text import read_config_file
from moe_hub.errors import ConfigError

PlanModel = TypeVar("PlanModel", bound=Section)


def read_plan_file(path: Path, kind: str, model: type[PlanModel], parts: Iterable[type[Section]] = ()) -> PlanModel:
    """The plan in a file; `parts` are the sections in it, whose keys may be meant too. Raises `ConfigError`."""
    sections: list[type[Section]] = [model, *parts]
    known = [name for section in sections for name in section.model_fields]
    try:
        return model.model_validate(read_config_file(path, kind))
    except ValidationError as error:
        raise ConfigError("\n".join(f"{kind} {path}: {_problem(item, known)}" for item in error.errors())) from None


def planned_config(preset: str | None, values: Mapping[str, Any]) -> Config:
    """The config of one run of a plan, `values` by dotted key over the preset; raises `ConfigError`."""
    return load_config(preset, overrides=[f"{key}={json.dumps(value)}" for key, value in values.items()])


def _problem(item: Any, known: Iterable[str]) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"unknown key {where}{did_you_mean(str(item['loc'][-1]), known)}"
    return f"{where or 'plan'}: {item['msg']}"
