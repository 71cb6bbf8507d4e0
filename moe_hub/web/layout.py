"""The page: header, configuration on the left, the live figure and its controls in the centre, runs on the right."""

from __future__ import annotations

from typing import Any

from dash import dcc, html

from moe_hub.web import ids
from moe_hub.web.panels import configuration, figure, header, runs, tabs
from moe_hub.web.workbench import Workbench

TICK_MS = 1000


def page(workbench: Workbench, sign_out_path: str = "") -> Any:
    """The whole layout; with a path, the header links to it for signing out."""
    return html.Div(
        [
            html.A("Skip to the figure", href="#centre", className="skip-link"),
            header.panel(sign_out_path, workbench.prefix),
            html.Div(
                [
                    html.Aside(configuration.panel(workbench), className="contents", **{"aria-label": "Configuration"}),
                    html.Div(
                        [
                            html.Main(
                                [figure.panel(), figure.controls()], id="centre", className="centre", tabIndex="-1"
                            ),
                            runs.panel(),
                        ],
                        className="upper",
                    ),
                    tabs.panel(),
                ],
                className="workbench",
            ),
            *_stores(),
        ],
        className="page",
    )


def _stores() -> list[Any]:
    return [
        dcc.Interval(id=ids.TICK, interval=TICK_MS),
        dcc.Store(id=ids.TICKED),
        dcc.Store(id=ids.SELECTION, data={"focus": None, "selected": []}),
        dcc.Store(id=ids.ASSESSMENT, data=configuration.assessed(configuration.first_assessment())),
        dcc.Store(id=ids.LAUNCH_REQUEST),
        dcc.Store(id=ids.LAUNCH_PROGRESS),
        dcc.Store(id=ids.LAUNCHING, data=False),
        dcc.Store(id=ids.PRESET_BASE),
        dcc.Store(id=ids.PRESET_LOAD),
    ]
