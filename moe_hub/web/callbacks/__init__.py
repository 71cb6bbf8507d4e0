"""Everything the page asks the server through Dash, registered explicitly on one app."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output

from moe_hub.web import ids
from moe_hub.web.callbacks import configuration, controls, launching
from moe_hub.web.workbench import Workbench


def register_callbacks(app: Dash, workbench: Workbench, manager: Any) -> None:
    """Registers all callbacks on the app; `manager` keeps the background ones."""
    app.clientside_callback(
        ClientsideFunction("moeHub", "tick"), Output(ids.TICKED, "data"), Input(ids.TICK, "n_intervals")
    )
    configuration.register(app, workbench)
    controls.register(app, workbench)
    launching.register(app, workbench, manager)
