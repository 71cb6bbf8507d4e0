"""The controls' callback, as a function and over HTTP as the page calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import wait_for

from moe_hub.errors import RunError
from moe_hub.runs.store import RunDirectory
from moe_hub.web import ids
from moe_hub.web.callbacks.controls import act
from moe_hub.web.workbench import Workbench, open_workbench

pytestmark = pytest.mark.slow


@pytest.fixture
def workbench(page: Any) -> Workbench:
    return open_workbench(page.runs_dir, page.data_dir, "/")


def test_pause_resume_save_stop(workbench: Workbench, start_fake: Callable[..., RunDirectory]) -> None:
    run = start_fake("--steps", "100000", "--delay", "0.01")
    assert "Pause" in act(workbench, run.run_id, ids.PAUSE)
    wait_for(lambda: run.state() == "paused")
    act(workbench, run.run_id, ids.RESUME)
    wait_for(lambda: run.state() == "running")
    act(workbench, run.run_id, ids.SAVE)
    wait_for(run.checkpoints)
    act(workbench, run.run_id, ids.STOP)
    wait_for(lambda: run.state() == "stopped")


def test_a_finished_run_is_not_resumed(workbench: Workbench, finished_run: RunDirectory) -> None:
    with pytest.raises(RunError, match="finished"):
        act(workbench, finished_run.run_id, ids.RESUME)


def press(page: Any, button: str, focus: Any) -> Any:
    """What the page sends when a button of the controls is pressed."""
    buttons = [ids.PAUSE, ids.RESUME, ids.STOP, ids.SAVE]
    body = {
        "output": f"{ids.CONTROL_MESSAGE}.children",
        "outputs": {"id": ids.CONTROL_MESSAGE, "property": "children"},
        "inputs": [{"id": each, "property": "n_clicks", "value": int(each == button)} for each in buttons],
        "state": [{"id": ids.SELECTION, "property": "data", "value": {"focus": focus, "selected": []}}],
        "changedPropIds": [f"{button}.n_clicks"],
    }
    return page.client.post("/_dash-update-component", json=body)


def test_over_http(page: Any, start_fake: Callable[..., RunDirectory]) -> None:
    run = start_fake("--steps", "100000", "--delay", "0.01")
    answer = press(page, ids.PAUSE, run.run_id)
    assert "Pause" in answer.get_json()["response"][ids.CONTROL_MESSAGE]["children"]
    wait_for(lambda: run.state() == "paused")


@pytest.mark.parametrize("focus", ["../../etc", "no-such-run"])
def test_a_wrong_run_is_a_message_and_not_an_error_500(page: Any, focus: str) -> None:
    answer = press(page, ids.STOP, focus)
    assert answer.status_code == 200
    assert focus in answer.get_json()["response"][ids.CONTROL_MESSAGE]["children"]


def test_no_run_selected_does_nothing(page: Any) -> None:
    assert press(page, ids.STOP, None).status_code in (200, 204)
