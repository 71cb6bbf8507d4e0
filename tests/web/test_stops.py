"""A stop asked for on the page escalates until the trainer is gone, across a restart of the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import wait_for

from moe_hub.runs.store import RunDirectory
from moe_hub.workbench.stops import Stops

pytestmark = pytest.mark.slow


def test_an_obedient_trainer_stops_at_the_request(page: Any, start_fake: Callable[..., RunDirectory]) -> None:
    run = start_fake("--steps", "100000", "--delay", "0.01")
    stops = Stops(page.store, patience_s=10)
    stops.request(run.run_id)
    wait_for(lambda: run.state() in ("stopped", "interrupted"))
    wait_for(lambda: stops.stage(run.run_id) is None)


def test_a_deaf_trainer_is_killed_and_each_stage_is_shown(page: Any, start_fake: Callable[..., RunDirectory]) -> None:
    run = start_fake("--steps", "100000", "--delay", "0.01", "--ignore-stop")
    stops = Stops(page.store, patience_s=0.4)
    stops.request(run.run_id)
    seen: list[Any] = []

    def gone() -> bool:
        stage = stops.stage(run.run_id)
        if stage is not None and (not seen or seen[-1] != stage["stage"]):
            seen.append(stage["stage"])
        return stage is None

    wait_for(gone)
    assert seen[:2] == ["requested", "terminated"]
    wait_for(lambda: run.state() in ("stopped", "interrupted"))


def test_a_new_server_goes_on_with_a_stop(page: Any, start_fake: Callable[..., RunDirectory]) -> None:
    run = start_fake("--steps", "100000", "--delay", "0.01", "--ignore-stop")
    first = Stops(page.store, patience_s=1000)
    first.request(run.run_id)
    second = Stops(page.store, patience_s=0.2)
    stage = second.stage(run.run_id)
    assert stage is not None
    assert stage["stage"] == "requested"
    wait_for(lambda: run.state() in ("stopped", "interrupted"))
    wait_for(lambda: second.stage(run.run_id) is None)
