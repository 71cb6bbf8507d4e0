"""The form: each change is checked and answered beside its field; presets fill it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, html, no_update

from moe_hub.config import preset_names
from moe_hub.errors import ConfigError
from moe_hub.web import ids
from moe_hub.web.assessment import (
    BYTES_PER_SAVED_PARAMETER,
    BYTES_PER_TRAINED_PARAMETER,
    Assessment,
    assess,
    command,
    is_hidden,
)
from moe_hub.web.fields import form_fields, to_raw
from moe_hub.web.panels.configuration import FIRST_PRESET, slider_fields, slider_id
from moe_hub.web.workbench import Workbench


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
            "errors": Output({"type": "error", "path": ALL}, "children"),
            "rows": Output({"type": "row", "path": ALL}, "hidden"),
            "parts": Output({"type": "part", "path": ALL, "advanced": ALL}, "hidden"),
            "count": Output(ids.PARAMETER_COUNT, "children"),
            "summary": Output(ids.VALIDATION_SUMMARY, "children"),
            "command": Output(ids.COMMAND_PREVIEW, "children"),
            "assessment": Output(ids.ASSESSMENT, "data"),
            "difference": Output("preset-difference", "children"),
            "difference_title": Output("preset-difference-title", "children"),
            "no_difference": Output("preset-difference-box", "hidden"),
        },
        inputs={"values": field_values(Input), "preset": Input(ids.PRESET, "value")},
    )
    def check(values: dict[str, Any], preset: str | None) -> dict[str, Any]:
        base = _base(workbench, preset)
        result = assess(values, base)
        row_paths = [each["id"]["path"] for each in ctx.outputs_grouping["rows"]]
        part_paths = [each["id"]["path"] for each in ctx.outputs_grouping["parts"]]
        return {
            "errors": [result.errors.get(each["id"]["path"], "") for each in ctx.outputs_grouping["errors"]],
            "rows": [is_hidden(path, result.hidden) for path in row_paths],
            "parts": [is_hidden(path, result.hidden) for path in part_paths],
            "count": describe_count(result),
            "summary": describe_problems(result),
            "command": _command(workbench, preset, result),
            "assessment": {"valid": result.valid, "errors": dict(result.errors)},
            "difference": describe_difference(base, result.changed),
            "difference_title": f"{len(result.changed)} changed from the preset",
            "no_difference": not result.changed,
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


def _command(workbench: Workbench, preset: str | None, result: Assessment) -> str:
    file = None
    if preset and preset not in preset_names():
        file = workbench.presets.file(preset)
    return command(result.changed, preset, file, workbench.runs_dir)


def describe_count(result: Assessment) -> Any:
    """Parameters in all, per token and by part, with the memory that they need and the data they see."""
    if result.count is None or result.config is None:
        return html.P("The count appears once the fields are right.", className="note")
    count = result.count
    return [
        html.P(
            [html.Strong(f"{count.total:,}", className="figure-number"), " parameters"]
            + ([f", {count.active:,} active per token"] if count.active != count.total else []),
            className="count-line",
        ),
        _parts_bar(count.parts, count.total),
        html.Dl(
            [html.Div([html.Dt(name), html.Dd(value)]) for name, value in _facts(result)],
            className="facts",
            title=result.data_note,
        ),
    ]


def _parts_bar(parts: Mapping[str, int], total: int) -> Any:
    shown = [(name, size) for name, size in parts.items() if size]
    legend = ", ".join(f"{name} {size:,}" for name, size in shown)
    return html.Div(
        [
            html.Div(
                [html.Span(style={"flexGrow": size / total}, className=f"part part-{index % 6}")
                 for index, (_, size) in enumerate(shown)],
                className="parts-bar", role="img", title=legend, **{"aria-label": f"By part: {legend}"},
            ),
            html.Ul(
                [html.Li([html.Span(className=f"dot part-{index % 6}"), f"{name} ", html.Span(f"{size:,}")])
                 for index, (name, size) in enumerate(shown)],
                className="parts-legend",
            ),
        ]
    )  # fmt: skip


def _facts(result: Assessment) -> list[tuple[str, str]]:
    assert result.count is not None
    assert result.config is not None
    train = result.config.train
    found = [
        ("Memory", f"about {_size(result.count.total * BYTES_PER_TRAINED_PARAMETER)} + activations"),
        ("Checkpoint", f"about {_size(result.count.total * BYTES_PER_SAVED_PARAMETER)}"),
        ("Vocabulary", f"{result.vocab_size:,} tokens"),
    ]
    if result.tokens_per_epoch:
        found.append(("Epoch", f"{'' if result.exact_tokens else 'about '}{result.tokens_per_epoch:,} tokens"))
    if result.batches_per_epoch:
        passes = train.max_steps * train.grad_accumulation / result.batches_per_epoch
        found.append(("Steps", f"{train.max_steps:,} = {passes:.2g} epochs"))
    return found


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def describe_problems(result: Assessment) -> Any:
    """How many problems there are, each with a link to its field."""
    if not result.errors:
        return html.P("Ready to start", className="ready")
    fields = form_fields()
    return [
        html.P(f"{len(result.errors)} to correct before this can start", className="wrong"),
        html.Ul(
            [
                html.Li(
                    [
                        html.A(fields[path].label, href=f"#{ids.field_id(path)}", **{"data-field": ids.field_id(path)})
                        if path in fields
                        else "",
                        f"  {message}",
                    ]
                )
                for path, message in result.errors.items()
            ]
        ),
    ]


def describe_difference(base: Mapping[str, Any], changed: Mapping[str, Any]) -> Any:
    """Each changed field: the preset's value and the form's."""
    return html.Table(
        html.Tbody(
            [
                html.Tr([
                    html.Th(path, scope="row"),
                    html.Td(str(base.get(path)), className="before"),
                    html.Td(str(value), className="after"),
                ])
                for path, value in changed.items()
            ]
        )
    )  # fmt: skip
