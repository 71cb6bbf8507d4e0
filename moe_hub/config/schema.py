"""What the sections of the config are made of: the base class, and fields that a form can show."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator


def option(
    default: Any,
    label: str,
    help: str,
    *,
    unit: str | None = None,
    advanced: bool = False,
    allowed: str = "",
    **bounds: Any,
) -> Any:
    """A field of the schema with what a form, a command line and a document need to show it.

    `allowed` says in words what a pattern or a check of its own lets through; bounds speak for themselves.
    """
    return Field(
        default=default,
        title=label,
        description=help,
        json_schema_extra={"unit": unit, "advanced": advanced, "allowed": allowed},
        **bounds,
    )


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values are checked, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_not_taken_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        # True would pass as 1: `max_steps: true` is a slip, not a number.
        if isinstance(value, bool) and info.field_name is not None:
            kind, _ = without_none(cls.model_fields[info.field_name].annotation)
            if kind in (int, float):
                raise ValueError("a number is needed, not true or false")
        return value


def without_none(annotation: Any) -> tuple[Any, bool]:
    """The type of a field without None, and whether None is allowed too."""
    if get_origin(annotation) in (typing.Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return kinds[0], len(kinds) < len(get_args(annotation))
    return annotation, False


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest known word, or nothing.

    Near is: spelled alike as a whole, or in the last part (num_expert), or of these initials (lr, learning_rate).
    """
    ends = {key: key.rpartition(".")[2] for key in known}
    end = word.rpartition(".")[2]
    near = difflib.get_close_matches(word, ends, n=1, cutoff=0.6) if word not in ends else []
    if not near:
        alike = difflib.get_close_matches(end, ends.values(), n=1, cutoff=0.6)
        near = [key for key, last in ends.items() if alike and last == alike[0]]
    initials = [key for key, last in ends.items() if "_" in last and "".join(w[:1] for w in last.split("_")) == end]
    near = initials or near
    return f"; did you mean {near[0]}?" if near else ""
