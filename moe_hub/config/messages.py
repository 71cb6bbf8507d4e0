"""What is wrong with a config, in words: the field, its value, what is allowed there, and the nearest known key."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from moe_hub.config.schema import did_you_mean, without_none

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def allowed(field: FieldInfo) -> str:
    """What a field may hold, in words: `1 to 64`, `above 0, at most 1`, `cosine, linear`; empty where all is."""
    kind, optional = without_none(field.annotation)
    if get_origin(kind) is Literal:
        words = ", ".join(map(str, get_args(kind)))
    else:
        words = str(_extra(field, "allowed") or "") or _range(field) or _pattern(field)
    unit = _extra(field, "unit")
    words = f"{words} {unit}" if words and unit else words
    return f"{words}, or null" if words and optional else words


def holds_text(field: FieldInfo) -> bool:
    """Whether the values of a field are free text."""
    return without_none(field.annotation)[0] is str


def problem_line(item: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> tuple[str, str]:
    """(dotted field, message) of one of pydantic's errors; the field is empty for what concerns the whole config."""
    where = ".".join(str(part) for part in item["loc"])
    kind = item["type"]
    if kind == "extra_forbidden":
        return where, _unknown(item["loc"], where, fields)
    field = fields.get(where)
    if field is None and isinstance(item["input"], Mapping):  # a section as the input would print all that is in it
        return where, f"{where}: {_message(item)}" if where else _message(item)
    shown = f"{where} = {_SHORT.repr(item['input'])}"
    if field is None:
        is_section = any(path.startswith(f"{where}.") for path in fields)
        return where, f"{shown}: {'a mapping of keys is needed here' if is_section else _kind_needed(item)}"
    if kind == "literal_error":
        near = did_you_mean(str(item["input"]), [str(choice) for choice in _choices(field)])
        return where, f"{shown}: allowed is {allowed(field)}{near}"
    if kind in ("value_error", "assertion_error"):
        return where, f"{shown}: {_message(item)}"
    return where, f"{shown}: {_needed(field, kind)}"


def _unknown(location: tuple[Any, ...], where: str, fields: Mapping[str, FieldInfo]) -> str:
    if any("." in str(part) for part in location):
        last = str(location[-1])
        nested = ": {".join(last.split(".")) + ": ..." + "}" * last.count(".")
        return f"{where}: a dotted key in a file; write it nested, as in {nested}"
    section = where.rpartition(".")[0]
    sections = {path[:index] for path in fields for index in range(len(path)) if path[index] == "."}
    known = [*fields, *sections]
    same_end = [path for path in known if path.rpartition(".")[2] == where.rpartition(".")[2]]
    siblings = [path for path in known if path.rpartition(".")[0] == section]
    near = did_you_mean(where, same_end) or did_you_mean(where, siblings) or did_you_mean(where, known)
    return f"{where}: unknown key{near}"


def _needed(field: FieldInfo, kind: str) -> str:
    """What the field needs, where the type or a bound is not kept."""
    words = allowed(field)
    annotation, _ = without_none(field.annotation)
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "string_pattern_mismatch"):
        return f"allowed is {words}"
    name = _KINDS.get(annotation, "a list of whole numbers" if get_origin(annotation) is tuple else "")
    needed = f"{name} is needed" if name else "another value is needed"
    return f"{needed}; allowed is {words}" if words else needed


def _kind_needed(item: Mapping[str, Any]) -> str:
    """What an entry of a list must be, from the name of pydantic's error, such as int_parsing."""
    names = {"int": int, "float": float, "bool": bool, "string": str}
    kind = names.get(item["type"].partition("_")[0])
    return f"{_KINDS[kind]} is needed" if kind else _message(item)


def _extra(field: FieldInfo, key: str) -> Any:
    return field.json_schema_extra.get(key) if isinstance(field.json_schema_extra, dict) else None


def _choices(field: FieldInfo) -> Iterable[Any]:
    return get_args(without_none(field.annotation)[0])


def _range(field: FieldInfo) -> str:
    low = high = ""
    closed: dict[str, Any] = {}
    for rule in field.metadata:
        if isinstance(rule, annotated_types.Ge):
            low, closed["low"] = f"at least {_number(rule.ge)}", rule.ge
        elif isinstance(rule, annotated_types.Gt):
            low = f"above {_number(rule.gt)}"
        elif isinstance(rule, annotated_types.Le):
            high, closed["high"] = f"at most {_number(rule.le)}", rule.le
        elif isinstance(rule, annotated_types.Lt):
            high = f"below {_number(rule.lt)}"
        elif isinstance(rule, annotated_types.MinLen):
            low = f"{rule.min_length} or more entries"
    if len(closed) == 2:
        return f"{_number(closed['low'])} to {_number(closed['high'])}"
    return ", ".join(part for part in (low, high) if part)


def _pattern(field: FieldInfo) -> str:
    for rule in field.metadata:
        pattern = getattr(rule, "pattern", None)
        if pattern is not None:
            return f"what fits {pattern}"
    return ""


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _message(item: Mapping[str, Any]) -> str:
    return str(item["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
