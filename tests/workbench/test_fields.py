"""The schema as a form: kinds, bounds, and text to value and back."""

from __future__ import annotations

import pytest

from moe_hub.config import Config, flatten, nest, preset_names
from moe_hub.workbench.assessment import shipped_values
from moe_hub.workbench.fields import form_fields, to_raw, to_values


@pytest.mark.parametrize("preset", preset_names())
def test_a_preset_survives_the_form(preset: str) -> None:
    values = shipped_values(preset)
    back = Config.model_validate(nest(to_values(to_raw(values))))
    assert flatten(back.model_dump(mode="json")) == values


def test_every_field_has_label_help_and_a_kind() -> None:
    for path, field in form_fields().items():
        assert field.label, path
        assert field.help, path
        assert field.kind in ("choice", "switch", "integer", "number", "text", "integers"), path


def test_bounds_come_from_the_schema() -> None:
    experts = form_fields()["model.num_experts"]
    assert (experts.low, experts.high, experts.kind) == (1, 64, "integer")
    rate = form_fields()["train.learning_rate"]
    assert (rate.low, rate.low_open) == (0, True)


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("train.learning_rate", "1e-3", 1e-3),
        ("model.num_experts", " 8 ", 8),
        ("train.epochs", "", None),
        ("data.levels", "1, 2 3", [1, 2, 3]),
        ("model.num_experts", "many", "many"),
        ("train.compile", True, True),
    ],
)
def test_text_becomes_a_value(path: str, text: object, value: object) -> None:
    assert to_values({path: text}) == {path: value}


def test_names_that_are_no_fields_are_left_out() -> None:
    assert to_values({"model.secret": "1"}) == {}
