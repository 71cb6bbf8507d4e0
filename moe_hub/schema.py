"""What the sections of the config are made of: the base class, and fields that a form can show."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def option(
    default: Any,
    label: str,
    help: str,
    *,
    unit: str | None = None,
    advanced: bool = False,
    **bounds: Any,
) -> Any:
    """A field of the schema with what a form, a command line and a document need to show it."""
    return Field(
        default=default,
        title=label,
        description=help,
        json_schema_extra={"unit": unit, "advanced": advanced},
        **bounds,
    )


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values are checked, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def did_you_mean(word: str, known: Any) -> str:
    """`; did you mean X?` for the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    if not near:  # the last part alone: `lr` -> train.learning_rate is not close, `num_expert` -> model.num_experts is
        ends = {key.rsplit(".", 1)[-1]: key for key in known}
        near = [ends[end] for end in difflib.get_close_matches(word.rsplit(".", 1)[-1], list(ends), n=1, cutoff=0.6)]
    return f"; did you mean {near[0]}?" if near else ""
