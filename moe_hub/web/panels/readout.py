"""What the form says under its fields: counts, memory, problems, the difference from the preset, the command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dash import html

from moe_hub.config import preset_names
from moe_hub.web import ids
from moe_hub.web.workbench import Workbench
from moe_hub.workbench.assessment import Assessment, command
from moe_hub.workbench.fields import form_fields
from moe_hub.workbench.readout import facts_of, preset_label


def shell_command(workbench: Workbench, preset: str | None, result: Assessment) -> str:
    """The command that trains what the form holds."""
    file = None
    if preset and preset not in preset_names():
        file = workbench.presets.file(preset)
    return command(result.changed, preset, file, workbench.runs_dir)


def describe_shortly(preset: str | None, result: Assessment) -> str:
    """The folded panel in one line."""
    if result.count is None:
        return f"{len(result.errors)} to correct"
    return f"{preset_label(preset or '')}, {result.count.total:,} parameters".lstrip(", ")


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
            [html.Div([html.Dt(name), html.Dd(value)]) for name, value in facts_of(result)],
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
