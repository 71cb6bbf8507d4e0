"""The config: one schema for shell, dashboard and Python, with bounds, help, units and defaults.

Precedence: defaults < preset < file < overrides. Nothing is repaired silently: an unknown key or a value
out of bounds is a `ConfigError` that names the field, the value, what is allowed and the nearest known key.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from pydantic import BaseModel, ValidationError, model_validator
from pydantic.fields import FieldInfo

from moe_hub.architectures import ARCHITECTURES
from moe_hub.config.data import DataConfig as DataConfig
from moe_hub.config.data import MixturePart as MixturePart
from moe_hub.config.data import parse_mixture as parse_mixture
from moe_hub.config.messages import holds_text, problem_line
from moe_hub.config.model import CouplingConfig as CouplingConfig
from moe_hub.config.model import ModelConfig as ModelConfig
from moe_hub.config.schema import Section, did_you_mean, option
from moe_hub.config.text import dump_yaml, merge, parse_value, read_config_file, split_override
from moe_hub.config.text import flatten as flatten
from moe_hub.config.text import nest as nest
from moe_hub.config.train import TrainConfig as TrainConfig
from moe_hub.errors import ConfigError

SCHEMA_VERSION = 1
# From each older version of the schema to the next: nested values in, nested values out.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


class Config(Section):
    """Everything that defines a run."""

    name: str = option(
        "run",
        "Name",
        "Short name, part of the run id.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$",
        allowed="1 to 40 letters, digits, - and _, beginning with a letter or digit",
    )
    seed: int = option(0, "Seed", "Of weights, data order and dropout.", ge=0, le=2**31 - 1)
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    data: DataConfig = DataConfig()

    @model_validator(mode="after")
    def _mode_fits_architecture(self) -> Self:
        if self.train.mode == "geometric" and "rotation" not in ARCHITECTURES[self.model.architecture].features:
            raise ValueError(
                f"train.mode = geometric needs an architecture with rotations, not {self.model.architecture}; "
                "set model.architecture=geometric or train.mode=standard"
            )
        if self.train.lambda_cognitive.enabled and (
            "rotation" not in ARCHITECTURES[self.model.architecture].features or self.data.source != "lambda"
        ):
            raise ValueError(
                "train.lambda_cognitive.enabled needs model.architecture=geometric and data.source=lambda; "
                "turn it off or change them"
            )
        return self

    @model_validator(mode="after")
    def _processes_can_train(self) -> Self:
        if refusal := self.refuses(self.train.parallel.processes):
            raise ValueError(refusal)
        return self

    def refuses(self, processes: int) -> str:
        """Why this config cannot be trained by that many processes, and what to change; empty where it can."""
        train, ghost = self.train, self.model.ghost
        if processes == 1:
            return ""
        several = f"{processes} processes (train.parallel.processes, or torchrun's)"
        if processes > train.batch_size:
            return f"{several} share batches of train.batch_size = {train.batch_size} rows; each needs at least one"
        if train.device == "mps" or train.device.startswith("cuda:"):
            return f"{several} cannot share train.device = {train.device}; take auto, cuda (a GPU each) or cpu"
        if train.compile:
            return f"train.compile is for one process, not for {several}; turn it off"
        sharded = train.parallel.strategy == "fsdp" and self.model.num_ghosts
        if sharded and (ghost.background_learning or ghost.initialization == "clone"):
            return (
                "train.parallel.strategy = fsdp keeps shards, and ghosts that copy an expert or learn in the "
                "background need them whole; take strategy=ddp, or model.ghost.initialization=silent with "
                "model.ghost.background_learning=false"
            )
        return ""

    @model_validator(mode="after")
    def _ghosts_can_learn(self) -> Self:
        coupled = self.model.num_ghosts and self.model.ghost.lr_coupling != "none"
        if coupled and self.train.schedule in ("constant", "wsd"):
            raise ValueError(
                f"model.ghost.lr_coupling = {self.model.ghost.lr_coupling} gives ghosts what the common learning rate "
                f"falls by, and train.schedule = {self.train.schedule} stays at its peak for all or most of the run; "
                "take another schedule or lr_coupling=none"
            )
        return self


@dataclass(frozen=True)
class Resolved:
    """A config and, for each dotted key, where its value came from: default, preset NAME, file PATH or --set."""

    config: Config
    sources: Mapping[str, str]


def preset_folder() -> Path:
    """The folder of the shipped presets: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def preset_names() -> list[str]:
    """Names of the shipped presets, sorted."""
    return sorted(path.stem for path in preset_folder().glob("*.yaml"))


def load_config(
    preset: str | None = None, path: str | os.PathLike[str] | None = None, overrides: Sequence[str] = ()
) -> Config:
    """The config from a preset, then a YAML file, then `a.b=value` overrides. Raises `ConfigError`."""
    return resolve(preset, path, overrides).config


def resolve(
    preset: str | None = None, path: str | os.PathLike[str] | None = None, overrides: Sequence[str] = ()
) -> Resolved:
    """As `load_config`, with the source of each value."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if preset is not None:
        merge(values, sources, _read(_preset_file(preset)), f"preset {preset}")
    if path is not None:
        merge(values, sources, _read(Path(path)), f"file {os.fspath(path)}")
    merge(values, sources, parse_overrides(overrides), "--set")
    config = _checked(values, sources)
    return Resolved(config, {key: sources.get(key, "default") for key in flatten(config.model_dump(mode="json"))})


def validate(values: Mapping[str, Any]) -> Config:
    """A nested mapping, as a config file or a run holds it, as a `Config`.

    Raises `ConfigError` with one line for each problem.
    """
    return _checked(_current(values))


def problems(error: ValidationError) -> list[tuple[str, str]]:
    """(dotted field, readable message) for each problem of a validation error, in its order."""
    fields = field_paths()
    return [problem_line(item, fields) for item in error.errors(include_url=False)]


def field_paths() -> dict[str, FieldInfo]:
    """Every settable key, dotted, with its field, in the order of the schema."""
    return dict(_walk_fields(Config, ""))


def to_yaml(config: Config, sources: Mapping[str, str] | None = None) -> str:
    """YAML text that `load_config(path=...)` reads back; with `sources`, each value is followed by its origin."""
    from moe_hub import __version__

    stamp = {"schema_version": SCHEMA_VERSION, "version": __version__}
    return dump_yaml({**stamp, **config.model_dump(mode="json")}, sources)


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """`a.b=value` texts as nested values, the last one winning; raises `ConfigError`.

    A field that holds text takes the value as it was written, unless it stands in quotes: in `name=2024` it is no
    number, and in `data.path=a: b` no mapping.
    """
    fields = field_paths()
    values: dict[str, Any] = {}
    for override in overrides:
        key, text = split_override(override)
        as_written = key in fields and holds_text(fields[key]) and text.strip() not in ("", "~", "null")
        value = text.strip() if as_written and text.strip()[0] not in "\"'" else parse_value(override, text)
        merge(values, {}, nest({key: value}), "")
    return values


def _checked(values: Mapping[str, Any], sources: Mapping[str, str] = MappingProxyType({})) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = [f"{line}{_from_file(where, sources)}" for where, line in problems(error)]
        raise ConfigError("\n".join(lines)) from None


def _from_file(where: str, sources: Mapping[str, str]) -> str:
    """` (file PATH)` where the value, or one in the section, came from a file; what was typed needs no such hint."""
    for key, source in sources.items():
        if source.startswith("file ") and (key == where or key.startswith(f"{where}.")):
            return f" ({source})"
    return ""


def _walk_fields(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _walk_fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def _preset_file(name: str) -> Path:
    names = preset_names()
    if name not in names:
        raise ConfigError(f"preset {name!r} does not exist; presets: {', '.join(names)}{did_you_mean(name, names)}")
    return preset_folder() / f"{name}.yaml"


def _read(path: Path) -> dict[str, Any]:
    try:
        return _current(read_config_file(path))
    except ConfigError as error:
        raise ConfigError(str(error) if str(path) in str(error) else f"config file {path}: {error}") from None


def _current(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config of any version in the schema of now, without the version; raises `ConfigError`."""
    version = values.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        newer = type(version) is int and version > SCHEMA_VERSION
        advice = "; it was written by a newer MoE Hub: update this one" if newer else ""
        raise ConfigError(f"schema_version = {version!r}: allowed is 1 to {SCHEMA_VERSION}{advice}")
    current = {key: value for key, value in values.items() if key not in ("schema_version", "version")}
    for step in range(version, SCHEMA_VERSION):
        current = MIGRATIONS[step](current)
    return current
