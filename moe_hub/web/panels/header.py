"""The bar at the top: name, version and the choice of theme."""

from __future__ import annotations

from typing import Any

from dash import html

from moe_hub import __version__

THEMES = (("light", "Light", "sun"), ("system", "System", "circle-half"), ("dark", "Dark", "moon"))


def panel(sign_out_path: str = "") -> Any:
    """The header; with a path, it has a link for signing out."""
    return html.Header(
        [
            html.Div(
                [html.Span(className="brand-mark", **{"aria-hidden": "true"}), html.H1("MoE Hub")], className="brand"
            ),
            html.Span(f"v{__version__}", className="version"),
            html.Span(id="connection", className="connection", role="status"),
            *([html.A("Sign out", id="sign-out", href=sign_out_path)] if sign_out_path else []),
            html.Div(
                [
                    html.Button(
                        html.Span(className=f"icon icon-{icon}", **{"aria-hidden": "true"}),
                        id=f"theme-{key}",
                        className="segment",
                        type="button",
                        title=f"{label} theme",
                        **{"aria-label": f"{label} theme", "aria-pressed": "false", "data-theme": key},
                    )
                    for key, label, icon in THEMES
                ],
                className="segments theme-switch",
                role="group",
                **{"aria-label": "Theme"},
            ),
        ],
        className="header",
    )
