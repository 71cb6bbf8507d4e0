"""Start: a background callback launches the detached trainer and reports until its first step or its failure.

The job may be killed at any moment (its page reloads, its server ends). It only starts and reports: from the moment
that the run directory exists, that directory is the truth.
"""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State

from moe_hub.errors import MoeHubError
from moe_hub.web import ids
from moe_hub.web.callbacks.configuration import field_values
from moe_hub.web.workbench import Workbench
from moe_hub.workbench.starting import Report, form_config, queue_and_report, start_and_report

JOB_INTERVAL_MS = 1000


def register(app: Dash, workbench: Workbench, manager: Any) -> None:
    """The launch request, the background job and the state of the Start button."""
    app.clientside_callback(
        ClientsideFunction("moeHub", "requestLaunch"),
        Output(ids.LAUNCH_REQUEST, "data"),
        Input(ids.START, "n_clicks"),
        Input(ids.QUEUE, "n_clicks"),
        State(ids.ASSESSMENT, "data"),
        State(ids.LAUNCHING, "data"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        ClientsideFunction("moeHub", "launchable"),
        Output(ids.START, "disabled"),
        Output(ids.QUEUE, "disabled"),
        Input(ids.ASSESSMENT, "data"),
        Input(ids.LAUNCHING, "data"),
    )
    app.clientside_callback(
        ClientsideFunction("moeHub", "focusLaunched"),
        Output(ids.TICKED, "data", allow_duplicate=True),
        Input(ids.LAUNCH_PROGRESS, "data"),
        prevent_initial_call=True,
    )
    runs_dir, presets, refused = workbench.runs_dir, workbench.presets, workbench.readable.problems

    @app.callback(
        output=Output(ids.LAUNCH_MESSAGE, "children"),
        inputs={
            "request": Input(ids.LAUNCH_REQUEST, "data"),
            "preset": State(ids.PRESET, "value"),
            "values": field_values(State),
        },
        background=True,
        manager=manager,
        progress=Output(ids.LAUNCH_PROGRESS, "data"),
        running=[(Output(ids.LAUNCHING, "data"), True, False)],
        interval=JOB_INTERVAL_MS,
        prevent_initial_call=True,
    )
    def launch_job(
        set_progress: Report, request: dict[str, Any] | None, preset: str | None, values: dict[str, Any]
    ) -> str:
        if not request:
            return ""
        try:
            config = form_config(presets, preset, values, refused)
            if request.get("action") == "queue":
                return queue_and_report(runs_dir, config, set_progress)
            return start_and_report(runs_dir, config, set_progress)
        except MoeHubError as error:
            return str(error)
        except Exception as error:  # its traceback would go to the page, with paths
            return f"The run could not be started: {type(error).__name__}: {error}"
