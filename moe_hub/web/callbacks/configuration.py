"""The form: each change is checked and answered beside its field; presets fill it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, no_update

from moe_hub.errors import ConfigError
from moe_hub.web import ids
from moe_hub.web.panels.configuration import assessed, slider_fields, slider_id
from moe_hub.web.panels.readout import (
    describe_count,
    describe_difference,
    describe_problems,
    describe_shortly,
    shell_command,
)
from moe_hub.web.workbench import Workbench
from moe_hub.workbench.assessment import assess
from moe_hub.workbench.fields import form_fields, to_raw
from moe_hub.workbench.presets import FIRST_PRESET


def field_values(kind: type[Input] | type[State]) -> dict[str, Any]:
    """The value of every field of the form, as inputs or states of a callback."""
    return {path: kind(ids.field_id(path), "value") for path in form_fields()}


def register(app: Dash, workbench: Workbench) -> None:
    """Checks, presets and sliders."""
    _register_check(app, workbench)
    _register_presets(app, workbench)
    for each in slider_fields():
        app.clientside_callback(
            ClientsideFunction("moeHub", "syncSlider"),
            Output(ids.field_id(each.path), "value", allow_duplicate=True),
            Output(slider_id(each.path), "value"),
            Input(ids.field_id(each.path), "value"),
            Input(slider_id(each.path), "value"),
            prevent_initial_call=True,
        )


def _register_check(app: Dash, workbench: Workbench) -> None:
    @app.callback(
        output={
            "count": Output(ids.PARAMETER_COUNT, "children"),
            "summary": Output(ids.VALIDATION_SUMMARY, "children"),
            "command": Output(ids.COMMAND_PREVIEW, "children"),
            "assessment": Output(ids.ASSESSMENT, "data"),
            "difference": Output("preset-difference", "children"),
            "difference_title": Output("preset-difference-title", "children"),
            "no_difference": Output("preset-difference-box", "hidden"),
            "hint": Output("config-hint", "children"),
        },
        inputs={"values": field_values(Input), "preset": Input(ids.PRESET, "value")},
        prevent_initial_call=True,  # the page comes with the answer for its first preset
    )
    def check(values: dict[str, Any], preset: str | None) -> dict[str, Any]:
        base = _base(workbench, preset)
        result = assess(values, base, workbench.readable.problems)
        return {
            "count": describe_count(result),
            "summary": describe_problems(result),
            "command": shell_command(workbench, preset, result),
            "assessment": assessed(result),
            "difference": describe_difference(base, result.changed),
            "difference_title": f"{len(result.changed)} changed from the preset",
            "no_difference": not result.changed,
            "hint": describe_shortly(preset, result),
        }


def _register_presets(app: Dash, workbench: Workbench) -> None:
    @app.callback(
        output={
            "values": {path: Output(ids.field_id(path), "value") for path in form_fields()},
            "message": Output("preset-message", "children"),
            "preset": Output(ids.PRESET, "value", allow_duplicate=True),
        },
        inputs={"preset": Input(ids.PRESET, "value"), "load": Input(ids.PRESET_LOAD, "data")},
        prevent_initial_call=True,
    )
    def fill(preset: str | None, load: Mapping[str, Any] | None) -> dict[str, Any]:
        asked = load if ctx.triggered_id == ids.PRESET_LOAD else None
        try:
            values, message = _asked(workbench, preset, asked)
        except ConfigError as error:
            return {"values": dict.fromkeys(form_fields(), no_update), "message": str(error), "preset": no_update}
        base = (asked or {}).get("preset")
        return {"values": to_raw(values), "message": message, "preset": base if isinstance(base, str) else no_update}


def _asked(workbench: Workbench, preset: str | None, load: Mapping[str, Any] | None) -> tuple[dict[str, Any], str]:
    if load is not None and isinstance(load.get("values"), dict):
        return load["values"], str(load.get("message", ""))
    return workbench.presets.values(preset or FIRST_PRESET), ""


def _base(workbench: Workbench, preset: str | None) -> dict[str, Any]:
    try:
        return workbench.presets.values(preset or FIRST_PRESET)
    except ConfigError:
        return {}
