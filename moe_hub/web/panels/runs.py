"""The list of runs; its rows are drawn by assets/runs.js from the live answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_bootstrap_components as dbc
from dash import html

from moe_hub.web import ids

# Keys that assets/runs.js knows, and what a person reads.
FILTERS = (
    ("current", "All but archived"), ("live", "Running"), ("queued", "Queued"), ("finished", "Finished"),
    ("ended", "Stopped or failed"), ("archived", "Archived"),
)  # fmt: skip
ORDERS = (("newest", "Newest first"), ("oldest", "Oldest first"), ("name", "By name"), ("loss", "Lowest loss"),
          ("state", "By state"))  # fmt: skip


def panel() -> Any:
    """The panel of runs."""
    return html.Section(
        [
            html.Div([html.H2("Runs"), html.Span(id="run-count", className="count")], className="panel-head"),
            html.Label("Search runs", htmlFor="run-search", className="visually-hidden"),
            dbc.Input(id="run-search", type="search", placeholder="Search name, tag, state", autocomplete="off"),
            html.Div(
                [
                    html.Label("Show", htmlFor="run-filter", className="visually-hidden"),
                    html.Select(_options(FILTERS), id="run-filter", className="form-select form-select-sm"),
                    html.Label("Sort", htmlFor="run-sort", className="visually-hidden"),
                    html.Select(_options(ORDERS), id="run-sort", className="form-select form-select-sm"),
                ],
                className="run-view",
            ),
            html.Div(id="run-actions", className="run-actions"),
            html.Div(id="run-queue", className="run-queue", hidden=True),
            html.Div(id=ids.RUN_TABLE, className="run-table"),
            html.Div(id="run-undo", className="undo", role="status"),
        ],
        className="panel runs-panel",
        **{"aria-label": "Runs"},
    )


def _options(choices: Sequence[tuple[str, str]]) -> list[Any]:
    return [html.Option(label, value=key) for key, label in choices]
