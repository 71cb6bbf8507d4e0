"""The live figure with its selector, and the controls of the run under it."""

from __future__ import annotations

from typing import Any

from dash import html

from moe_hub.web import ids

CONTROLS = (
    (ids.START, "Start", "play", "primary"),
    (ids.PAUSE, "Pause", "pause", ""),
    (ids.RESUME, "Resume", "resume", ""),
    (ids.STOP, "Stop", "stop", ""),
    (ids.SAVE, "Save", "save", ""),
    (ids.QUEUE, "Queue", "queue", ""),
)


def panel() -> Any:
    """The figure card."""
    return html.Section(
        [
            html.Div(
                [
                    html.Label("Figure", htmlFor=ids.FIGURE_SELECT, className="visually-hidden"),
                    html.Select(id=ids.FIGURE_SELECT, className="form-select figure-select"),
                    html.Div(id="figure-options", className="figure-options"),
                ],
                className="figure-bar",
            ),
            html.P(id="figure-question", className="figure-question"),
            html.Div(
                [
                    html.Div(id=ids.LIVE_FIGURE, className="live-figure", role="group", **{"aria-label": "Figure"}),
                    html.Div(id="figure-empty", className="empty", hidden=True),
                ],
                className="figure-stage",
            ),
            html.Div(id="figure-help", className="figure-help", hidden=True),
        ],
        className="panel figure-panel",
        **{"aria-label": "Live figure"},
    )


def controls() -> Any:
    """Start, Pause, Resume, Stop, Save, Queue, the progress and the status line."""
    return html.Section(
        [
            html.Div(
                [_button(*control) for control in CONTROLS]
                + [html.Span(id=ids.LAUNCH_MESSAGE, className="launch-message", role="status")],
                className="button-row controls",
            ),
            html.Div(id=ids.RUN_PROGRESS, className="run-progress"),
            html.Div(id=ids.RUN_STATUS, className="run-status", **{"aria-live": "polite"}),
            html.Ul(id="run-alarms", className="alarms", hidden=True, **{"aria-label": "Alarms of the run"}),
            html.Div(id="run-setting", className="setting", hidden=True),
            html.P(id=ids.CONTROL_MESSAGE, className="control-message", role="status"),
            html.Div(id="failure-card", className="failure-card", hidden=True),
        ],
        className="panel controls-panel",
        **{"aria-label": "Training controls"},
    )


def _button(place: str, label: str, icon: str, kind: str) -> Any:
    return html.Button(
        [html.Span(className=f"icon icon-{icon}", **{"aria-hidden": "true"}), label],
        id=place,
        type="button",
        className=f"button {kind}".strip(),
        disabled=True,
    )
