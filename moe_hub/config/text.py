"""The text side of the config: YAML in and out, `a.b=value` overrides, dotted keys, and where each value came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from moe_hub.errors import ConfigError

_LARGEST_FILE = 1 << 20
_MOST_VALUES, _MOST_LEVELS = 100_000, 32
_DEEPEST = 8  # sections are nested less deep; a mapping that holds itself is nested for ever
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times faster, and not everywhere

_PLAIN_VALUES = (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+0123456789."),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
)


class _Loader(_LOADER):  # type: ignore[misc]
    """YAML with the plain values of version 1.2 (core schema): 1e-3 is a number, `on` and 2026-11-24 are text.

    A key that stands twice in a mapping is an error: one of the two would be skipped without a word.
    """

    yaml_implicit_resolvers: dict[str, list[Any]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen:
                    problem = f"key {key_node.value!r} stands twice in one mapping"
                    raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version of YAML would read as something else."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Text with line ends, of any kind, goes on one line with escapes: a comment can follow there.
    style = '"' if text.splitlines() not in ([], [text]) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
for _kind, _expression, _first in _PLAIN_VALUES:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_kind}",
            re.compile(rf"^(?:{_expression})$"),
            [*_first, *([""] if _kind == "null" else [])],
        )


def parse_yaml(text: str) -> Any:
    """The value of a YAML text; raises `yaml.YAMLError`, also where it is nested too deep or references blow it up."""
    try:
        value = yaml.load(text, Loader=_Loader)
    except (ValueError, RecursionError) as error:  # what libyaml and the constructors let through
        raise yaml.YAMLError(str(error)) from None
    if _count(value, _MOST_VALUES, _MOST_LEVELS) <= 0:
        raise yaml.YAMLError(f"it holds more than {_MOST_VALUES} values, or more than {_MOST_LEVELS} levels of them")
    return value


def _count(value: Any, left: int, levels: int) -> int:
    """How many of `left` values remain after those of `value`, each counted as often as it is referred to."""
    if levels < 0 or left <= 0:
        return 0
    left -= 1
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            left = _count(item, left, levels - 1)
            if left <= 0:
                return 0
    return left


def read_config_file(path: Path, kind: str = "config file") -> dict[str, Any]:
    """The mapping in a YAML file, which messages call a `kind`; an empty file is an empty one. Raises `ConfigError`."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise ConfigError(f"{kind} {path} has more than {_LARGEST_FILE} bytes; it should be a short YAML file")
        values = parse_yaml(content.decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{kind} {path}: {error.strerror or error}; check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{kind} {path} is not YAML: {_one_line(error)}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{kind} {path} must hold a mapping of keys, found a {type(values).__name__}")
    return values


def split_override(override: str) -> tuple[str, str]:
    """`a.b=value` as dotted key and text of the value; raises `ConfigError`."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {override!r} must look like train.max_steps=50")
    return key, text


def parse_value(override: str, text: str) -> Any:
    """The YAML value of an override; raises `ConfigError`."""
    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: the value is not YAML ({_one_line(error)}); quote it") from None


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping as {dotted key: value}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        target = nested
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
    return nested


def merge(
    values: dict[str, Any], sources: dict[str, str], new: Mapping[str, Any], source: str, prefix: str = ""
) -> None:
    """Lays `new` over `values`, and writes down in `sources` which dotted keys came from `source`."""
    for key, value in new.items():
        if isinstance(value, Mapping) and prefix.count(".") < _DEEPEST:
            if not isinstance(values.get(key), dict):
                values[key] = {}
            merge(values[key], sources, value, source, f"{prefix}{key}.")
        else:
            values[key] = value
            sources[f"{prefix}{key}"] = source


def dump_yaml(values: Mapping[str, Any], sources: Mapping[str, str] | None = None) -> str:
    """Nested values as YAML, in their order; with `sources`, each value is followed by its origin as a comment."""
    text: str = yaml.dump(
        values,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=2**30,
        default_flow_style=None if sources is None else False,
    )
    return text if sources is None else _annotate(text, sources)


def _annotate(text: str, sources: Mapping[str, str]) -> str:
    """Adds the comments to block YAML whose every key stands on a line of its own."""
    lines: list[str] = []
    stack: list[tuple[int, str]] = []
    for line in text.splitlines():
        content = line.lstrip()
        if content.startswith("- ") or ":" not in content:
            lines.append(line)
            continue
        indent = len(line) - len(content)
        stack = [entry for entry in stack if entry[0] < indent] + [(indent, content.partition(":")[0])]
        source = sources.get(".".join(name for _, name in stack))
        lines.append(f"{line}  # {source}" if source else line)
    return "\n".join(lines) + "\n"


def _one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
