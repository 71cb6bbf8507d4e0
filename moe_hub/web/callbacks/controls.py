"""Pause, Resume, Stop and Save: each leaves a request in the run directory and says so."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State, ctx, no_update

from moe_hub.errors import ConfigError, RunError
from moe_hub.web import ids
from moe_hub.web.workbench import Workbench
from moe_hub.workbench import obeying


def register(app: Dash, workbench: Workbench) -> None:
    """The controls of the run in focus."""

    @app.callback(
        Output(ids.CONTROL_MESSAGE, "children"),
        Input(ids.PAUSE, "n_clicks"),
        Input(ids.RESUME, "n_clicks"),
        Input(ids.STOP, "n_clicks"),
        Input(ids.SAVE, "n_clicks"),
        State(ids.SELECTION, "data"),
        prevent_initial_call=True,
    )
    def press(_pause: Any, _resume: Any, _stop: Any, _save: Any, selection: dict[str, Any] | None) -> Any:
        run_id = selection.get("focus") if isinstance(selection, dict) else None
        if not isinstance(run_id, str) or ctx.triggered_id not in (ids.PAUSE, ids.RESUME, ids.STOP, ids.SAVE):
            return no_update
        try:
            return act(workbench, run_id, str(ctx.triggered_id))
        except (RunError, ConfigError) as error:
            return str(error)


def act(workbench: Workbench, run_id: str, button: str) -> str:
    """Does what a button of the controls says and returns what to tell the person."""
    workbench.index.forget()
    action = {ids.PAUSE: "pause", ids.RESUME: "resume", ids.STOP: "stop", ids.SAVE: "save"}[button]
    return obeying.act(workbench.store, workbench.stops, run_id, action)
