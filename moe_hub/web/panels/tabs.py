"""The tabs under the figure; a tab stands here once everything on it works."""

from __future__ import annotations

from typing import Any

from dash import html

# Key and label; what a tab shows is drawn by assets/<key>.js.
TABS = (("analysis", "Analysis"), ("inference", "Inference"), ("models", "Models"), ("data", "Data"))


def panel() -> Any:
    """The tab list and its panels."""
    return html.Section(
        [
            html.Div([_tab(key, label) for key, label in TABS], className="tab-list", role="tablist",
                     **{"aria-label": "Workbench"}),
            *[
                html.Div(id=f"panel-{key}", role="tabpanel", className="tab-panel", tabIndex="0",
                         hidden=True, **{"aria-labelledby": f"tab-{key}"})
                for key, _ in TABS
            ],
        ],
        className="panel tabs-panel",
        **{"aria-label": "Analysis, inference, models and data"},
    )  # fmt: skip


def _tab(key: str, label: str) -> Any:
    return html.Button(
        label, id=f"tab-{key}", role="tab", type="button", className="hub-tab", tabIndex="-1",
        **{"aria-selected": "false", "aria-controls": f"panel-{key}", "data-tab": key},
    )  # fmt: skip
