"""The config schema as a form sees it: for each field its kind, bounds, label, and how text becomes its value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from moe_hub.architectures import ARCHITECTURES
from moe_hub.config import Config, field_paths, flatten
from moe_hub.config.messages import allowed
from moe_hub.config.schema import without_none

Kind = Literal["choice", "switch", "integer", "number", "text", "integers"]


@dataclass(frozen=True)
class FormField:
    """One field of the form. `low` and `high` are the bounds, with `*_open` where the bound itself is excluded;
    `allowed` says what may stand there in words."""

    path: str
    kind: Kind
    label: str
    help: str
    allowed: str
    unit: str
    advanced: bool
    optional: bool
    default: Any
    choices: tuple[tuple[str, str], ...] = ()
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False

    @property
    def section(self) -> str:
        """Dotted section, empty for the fields of the root."""
        return self.path.rpartition(".")[0]

    @property
    def is_template(self) -> bool:
        """Whether blanks and line ends count in it, as in the templates of prompts."""
        return self.kind == "text" and self.path.endswith("_template")


@cache
def form_fields() -> dict[str, FormField]:
    """Every config field by its path, in the order of the schema."""
    defaults = flatten(Config().model_dump(mode="json"))
    return {path: _describe(path, field, defaults.get(path)) for path, field in field_paths().items()}


def to_values(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What the inputs hold, as flat config values. Text that is no number stays text, so that it is named as wrong."""
    fields = form_fields()
    return {path: _parse(fields[path], value) for path, value in raw.items() if path in fields}


def to_raw(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Flat config values as the inputs show them; fields that are missing get their default."""
    return {path: _show(field, flat.get(path, field.default)) for path, field in form_fields().items()}


def show_number(value: float | int) -> str:
    """A number as a person writes it: 0.001 and 1e-05, never 0.0010000000474."""
    return str(value) if isinstance(value, int) else f"{value:.10g}"


def _describe(path: str, field: FieldInfo, default: Any) -> FormField:
    annotation, optional = without_none(field.annotation)
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    bounds = _bounds(field)
    kind = _kind(path, annotation)
    return FormField(
        path=path,
        kind=kind,
        label=field.title or path,
        help=field.description or "",
        allowed=allowed(field),
        unit=str(extra.get("unit") or ""),
        advanced=bool(extra.get("advanced")),
        optional=optional,
        default=default,
        choices=_choices(path, annotation) if kind == "choice" else (),
        **bounds,
    )


def _kind(path: str, annotation: Any) -> Kind:
    if path == "model.architecture" or get_origin(annotation) is Literal:
        return "choice"
    if annotation is bool:
        return "switch"
    if annotation is int:
        return "integer"
    if annotation is float:
        return "number"
    return "integers" if get_origin(annotation) in (tuple, list) else "text"


def _choices(path: str, annotation: Any) -> tuple[tuple[str, str], ...]:
    if path == "model.architecture":
        return tuple((name, row.label) for name, row in ARCHITECTURES.items())
    return tuple((str(choice), str(choice)) for choice in get_args(annotation))


def _bounds(field: FieldInfo) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for rule in field.metadata:
        if isinstance(rule, annotated_types.Ge):
            found["low"] = rule.ge
        elif isinstance(rule, annotated_types.Gt):
            found.update(low=rule.gt, low_open=True)
        elif isinstance(rule, annotated_types.Le):
            found["high"] = rule.le
        elif isinstance(rule, annotated_types.Lt):
            found.update(high=rule.lt, high_open=True)
    return found


def _parse(field: FormField, value: Any) -> Any:
    if field.kind == "switch":
        return bool(value)
    text = "" if value is None else str(value).strip()
    if not text and field.optional:
        return None
    if field.is_template:
        return str(value)
    if field.kind in ("integer", "number"):
        return _parse_number(text)
    if field.kind == "integers":
        return [_parse_number(part) for part in text.replace(",", " ").split()]
    return text


def _parse_number(text: str) -> Any:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def _show(field: FormField, value: Any) -> Any:
    if field.kind == "switch":
        return bool(value)
    if value is None:
        return ""
    if field.kind in ("integer", "number") and isinstance(value, int | float):
        return show_number(value)
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
