"""The list of runs; its rows are drawn by assets/runs.js from the live answers."""

from __future__ import annotations

from typing import Any

import dash_bootstrap_components as dbc
from dash import html

from moe_hub.web import ids


def panel() -> Any:
    """The panel of runs."""
    return html.Section(
        [
            html.Div([html.H2("Runs"), html.Span(id="run-count", className="count")], className="panel-head"),
            html.Label("Search runs", htmlFor="run-search", className="visually-hidden"),
            dbc.Input(id="run-search", type="search", placeholder="Search name, tag, state", autocomplete="off"),
            html.Div(id="run-actions", className="run-actions"),
            html.Div(id="run-queue", className="run-queue", hidden=True),
            html.Div(id=ids.RUN_TABLE, className="run-table"),
            html.Div(id="run-undo", className="undo", role="status"),
        ],
        className="panel runs-panel",
        **{"aria-label": "Runs"},
    )
