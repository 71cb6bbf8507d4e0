"""The configuration panel, generated from the schema: a new config field appears here by itself."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import dash_bootstrap_components as dbc
from dash import html

from moe_hub.config import Config, preset_names
from moe_hub.web import ids
from moe_hub.web.devices import devices
from moe_hub.web.panels.readout import (
    describe_count,
    describe_problems,
    describe_shortly,
    shell_command,
)
from moe_hub.web.workbench import Workbench
from moe_hub.workbench.assessment import Assessment, assess, hidden_parts, is_hidden, shipped_values
from moe_hub.workbench.fields import FormField, form_fields, to_raw
from moe_hub.workbench.presets import FIRST_PRESET
from moe_hub.workbench.readout import preset_label

WIDEST_SLIDER = 130  # a slider over more values than its pixels cannot be set
ESSENTIAL = ("name", "model.architecture", "train.mode")
SECTION_TITLES = {"": "Run", "model": "Model", "train": "Training", "data": "Data"}


def panel(workbench: Workbench) -> Any:
    """The panel with the values of the first preset, and what there is to say about them."""
    result = first_assessment()
    hint = html.Span(describe_shortly(FIRST_PRESET, result), className="summary-hint", id="config-hint")
    return html.Details(
        [
            html.Summary([html.H2("Configuration"), hint]),
            html.Div(
                [
                    _presets(workbench),
                    *_form(),
                    html.Datalist([html.Option(value=name, label=text) for name, text in devices()], id="devices"),
                ],
                className="config-scroll",
            ),
            _foot(workbench, result),
        ],
        id="configuration",
        className="panel configuration",
        open=True,
    )


def first_assessment() -> Assessment:
    """What the form says before anything was changed."""
    base = shipped_values(FIRST_PRESET)
    return assess(to_raw(base), base)


def assessed(result: Assessment) -> dict[str, Any]:
    """What form.js marks in the form: messages by field, and the fields and sections that are not shown."""
    return {"valid": result.valid, "errors": dict(result.errors), "hidden": sorted(result.hidden)}


def slider_fields() -> list[FormField]:
    """Fields that also get a slider: numbers between two bounds that are not too far apart."""
    return [
        each
        for each in form_fields().values()
        if each.kind in ("integer", "number")
        and each.low is not None
        and each.high is not None
        and not each.low_open
        and each.high - each.low <= WIDEST_SLIDER
    ]


def slider_id(path: str) -> str:
    """Id of the slider beside a number field."""
    return "slider-" + path.replace(".", "-")


def preset_options(workbench: Workbench) -> list[dict[str, Any]]:
    """Shipped presets, then the person's own."""
    shipped = [{"label": preset_label(name), "value": name} for name in preset_names()]
    return shipped + [{"label": f"{name} (own)", "value": name} for name in workbench.presets.own()]


def _presets(workbench: Workbench) -> Any:
    menu = html.Details(
        [
            html.Summary("Manage", className="quiet-button"),
            html.Div(
                [
                    html.Label("Name of an own preset", htmlFor="preset-name"),
                    dbc.Input(id="preset-name", type="text", placeholder="my_preset", maxLength=40, autocomplete="off"),
                    html.Div(
                        [
                            html.Button("Save as", id="preset-save", type="button", className="button small"),
                            html.Button("Rename", id="preset-rename", type="button", className="button small"),
                            html.Button("Delete", id="preset-delete", type="button", className="button small danger"),
                        ],
                        className="button-row",
                    ),
                    html.Div(
                        [
                            html.Button("Export YAML", id="preset-export", type="button", className="button small"),
                            html.Button("Import YAML", id="preset-import", type="button", className="button small"),
                            html.Button("From run", id="preset-copy", type="button", className="button small"),
                        ],
                        className="button-row",
                    ),
                ],
                className="menu",
            ),
        ],
        className="menu-host",
        id="preset-menu",
    )
    return html.Div(
        [
            html.Div(
                [
                    html.Label("Preset", htmlFor=ids.PRESET),
                    dbc.Select(id=ids.PRESET, options=preset_options(workbench), value=FIRST_PRESET),
                    menu,
                ],
                className="row-field preset-row",
            ),
            html.P(id="preset-message", className="note", role="status"),
            html.Details(
                [html.Summary(id="preset-difference-title"), html.Div(id="preset-difference", className="difference")],
                id="preset-difference-box",
                className="difference-box",
                hidden=True,
            ),
        ],
        className="config-block",
    )


@cache
def _form() -> tuple[Any, ...]:
    """All fields with the values of the first preset: the same for every page, and never changed once made."""
    values = to_raw(shipped_values(FIRST_PRESET))
    sections = html.Div([_group(top, values) for top in _top_sections()], className="sections")
    return _essentials(values), sections


@cache
def _first_hidden() -> frozenset[str]:
    return hidden_parts(shipped_values(FIRST_PRESET))


def _essentials(values: dict[str, Any]) -> Any:
    fields = form_fields()
    return html.Div([_row(fields[path], values[path]) for path in ESSENTIAL], className="config-block")


def _top_sections() -> list[str]:
    tops = [path.split(".")[0] if "." in path else "" for path in form_fields()]
    return [top for top in dict.fromkeys(tops) if top] + [""]


def _group(top: str, values: dict[str, Any]) -> Any:
    """One top-level section: its own fields, then those of its subsections, then the advanced ones folded away."""
    inside = [each for each in form_fields().values() if _top(each) == top and each.path not in ESSENTIAL]
    sections = list(dict.fromkeys(each.section for each in inside))
    plain = [_subsection(section, top, [f for f in inside if f.section == section and not f.advanced], values)
             for section in sections]  # fmt: skip
    advanced = [each for each in inside if each.advanced]
    folded = [_subsection(section, top, [f for f in advanced if f.section == section], values) for section in sections]
    return html.Details(
        [
            html.Summary(html.H3(SECTION_TITLES.get(top, _title(top)))),
            *[part for part in plain if part is not None],
            *([_advanced(folded)] if advanced else []),
        ],
        className="section",
        open=bool(top),
    )


def _advanced(parts: Iterable[Any]) -> Any:
    return html.Details([html.Summary("Advanced"), *[part for part in parts if part is not None]], className="advanced")


def _subsection(section: str, top: str, fields: list[FormField], values: dict[str, Any]) -> Any:
    if not fields:
        return None
    rows = [_row(each, values[each.path]) for each in fields]
    if section == top:
        return html.Div(rows, className="rows")
    return html.Div(
        [html.H4(_title(section), title=_section_help(section)), *rows],
        className="rows subsection",
        hidden=is_hidden(section, _first_hidden()),
        **{"data-part": section},
    )


def _top(each: FormField) -> str:
    return each.path.split(".")[0] if "." in each.path else ""


def _title(section: str) -> str:
    return section.rpartition(".")[2].replace("_", " ").capitalize()


def _section_help(section: str) -> str:
    model: Any = Config
    for part in section.split("."):
        model = model.model_fields[part].annotation
    return (model.__doc__ or "").strip()


def _row(each: FormField, value: Any) -> Any:
    """Label and control of one field. What the server says of it, wrong or not shown, is put there by form.js."""
    help_text = " ".join(part for part in (each.help, f"Allowed: {each.allowed}." if each.allowed else "") if part)
    unit = {"data-unit": each.unit} if each.unit and each.unit != each.label.lower() else {}
    return html.Div(
        [
            html.Label(each.label, htmlFor=ids.field_id(each.path), title=help_text, **unit),
            *_boxed(each, _control(each, value)),
        ],
        hidden=is_hidden(each.path, _first_hidden()),
        className="row-field",
        **{
            "data-path": each.path,
            "data-kind": each.kind,
            "data-field": ids.field_id(each.path),
            "data-help": help_text,
        },
    )


def _boxed(each: FormField, control: list[Any]) -> list[Any]:
    """The control, in a box where it has two parts or a second id."""
    second_id = {"id": ids.wrapper_id(each.path)} if ids.field_id(each.path) != ids.wrapper_id(each.path) else {}
    if len(control) == 1 and not second_id:
        return control
    return [html.Div(control, className="control", **second_id)]


def _control(each: FormField, value: Any) -> list[Any]:
    place = ids.field_id(each.path)
    if each.kind == "choice":
        options = [{"label": label, "value": choice} for choice, label in each.choices]
        return [dbc.Select(id=place, options=options, value=value)]
    if each.kind == "switch":
        return [dbc.Switch(id=place, value=value)]
    mode = {"integer": "numeric", "number": "decimal"}.get(each.kind, "text")
    # Text inputs keep whatever is typed, so a wrong value can be named; a number input would hide it.
    if each.path == "train.device":
        return [dbc.Input(id=place, type="text", value=value, list="devices", autocomplete="off")]
    if each.is_template:
        return [dbc.Textarea(id=place, value=value, rows=2, spellcheck=False, placeholder="of the format")]
    entry = dbc.Input(id=place, type="text", inputmode=mode, value=value, autocomplete="off",
                      placeholder="none" if each.optional else None)  # fmt: skip
    return [*_slider(each, value), entry]


def _slider(each: FormField, value: Any) -> list[Any]:
    if each not in slider_fields():
        return []
    assert each.low is not None
    assert each.high is not None
    step = 1 if each.kind == "integer" else 0.01 if each.high - each.low <= 5 else 0.1
    return [
        dbc.Input(
            id=slider_id(each.path), type="range", min=each.low, max=each.high, step=step,
            value=float(value or 0), tabindex="-1",
        )
    ]  # fmt: skip


def _foot(workbench: Workbench, result: Assessment) -> Any:
    return html.Div(
        [
            html.Div(
                "Point at a field, or move to it, to read what it means and what is allowed.",
                id="field-help",
                className="field-help",
            ),
            html.Div(describe_count(result), id=ids.PARAMETER_COUNT, className="parameter-count", role="status"),
            html.Div(
                describe_problems(result), id=ids.VALIDATION_SUMMARY, className="validation-summary", role="status"
            ),
            html.Div(
                [
                    html.Pre(
                        shell_command(workbench, FIRST_PRESET, result),
                        id=ids.COMMAND_PREVIEW,
                        tabIndex="0",
                        **{"aria-label": "Shell command"},
                    ),
                    html.Button(
                        html.Span(className="icon icon-copy", **{"aria-hidden": "true"}),
                        id="copy-command",
                        type="button",
                        className="icon-button",
                        title="Copy the command",
                        **{"aria-label": "Copy the command"},
                    ),
                ],
                className="command",
            ),
        ],
        className="config-foot",
    )
