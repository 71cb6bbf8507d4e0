"""The dashboard's own routes: what the page's scripts ask for beside Dash's callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask

from moe_hub.web.routes import analysis, checkpoints, data, generation, guide, health, live, presets, runs, sweeps
from moe_hub.web.workbench import Workbench

Route = tuple[str, Callable[..., Any], str]  # path under the prefix, view, method


def register_routes(server: Flask, workbench: Workbench) -> None:
    """Adds all routes under the prefix; each answers one method only."""
    for module in (health, guide, live, presets, runs, analysis, checkpoints, data, generation, sweeps):
        for path, view, method in module.routes(workbench):
            address = f"{workbench.prefix}{path}"
            server.add_url_rule(address, f"moe_hub {method} {address}", view, methods=[method])
