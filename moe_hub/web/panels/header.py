"""The bar at the top: name, version, the guide and the choice of theme."""

from __future__ import annotations

from typing import Any

from dash import html

from moe_hub import __version__

THEMES = (("light", "Light", "sun"), ("system", "System", "circle-half"), ("dark", "Dark", "moon"))


# Tab -> the chapter of the guide that Help opens there.
CHAPTERS = {
    "": "guide/index.md",
    "analysis": "guide/reading-figures.md",
    "inference": "guide/talking.md",
    "models": "guide/checkpoints.md",
    "data": "guide/data.md",
}


def panel(sign_out_path: str = "", prefix: str = "/") -> Any:
    """The header; with a path, it has a link for signing out. `prefix` is the path that the page lies under."""
    return html.Header(
        [
            html.Div(
                [html.Span(className="brand-mark", **{"aria-hidden": "true"}), html.H1("MoE Hub")], className="brand"
            ),
            html.Span(f"v{__version__}", className="version"),
            html.Span(id="connection", className="connection", role="status"),
            html.A(
                "Help",
                id="help-link",
                href=f"{prefix}help/{CHAPTERS['']}",
                target="_blank",
                title="The guide: the chapter of the open tab",
                **{f"data-{tab}": f"{prefix}help/{page}" for tab, page in CHAPTERS.items() if tab},
            ),
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
