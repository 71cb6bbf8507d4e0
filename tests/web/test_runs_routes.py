"""Rename, tag, delete, take back: POST with JSON; nothing outside the runs folder can be named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from moe_hub.runs.store import RunDirectory


def change(page: Any, **body: Any) -> Any:
    return page.client.post("/api/runs", json=body)


def test_rename_tag_delete_and_undo(page: Any, finished_run: RunDirectory) -> None:
    run_id = finished_run.run_id
    assert change(page, run=run_id, action="rename", label="  my  run ").status_code == 200
    assert change(page, run=run_id, action="tag", tags=["b", "a", "a", " "]).status_code == 200
    row = page.client.get("/api/live").get_json()["runs"]["rows"][0]
    assert (row["label"], row["tags"]) == ("my run", ["a", "b"])
    assert change(page, run=run_id, action="delete").status_code == 200
    assert page.client.get("/api/live").get_json()["runs"]["rows"] == []
    assert change(page, run=run_id, action="undelete").status_code == 200
    assert page.client.get("/api/live").get_json()["runs"]["rows"][0]["id"] == run_id


def test_archived_runs_stay_where_they_are(page: Any, finished_run: RunDirectory) -> None:
    run_id = finished_run.run_id
    assert change(page, run=run_id, action="tag", tags=["kept"]).status_code == 200
    assert change(page, run=run_id, action="archive").status_code == 200
    row = page.client.get("/api/live").get_json()["runs"]["rows"][0]
    assert (row["archived"], row["tags"], finished_run.path.exists()) == (True, ["kept"], True)
    assert page.client.get("/api/live", query_string={"focus": run_id}).get_json()["status"]["line"]["id"] == run_id
    assert change(page, run=run_id, action="unarchive").status_code == 200
    assert page.client.get("/api/live").get_json()["runs"]["rows"][0]["archived"] is False


def test_a_running_run_is_not_deleted(page: Any, start_fake: Callable[..., RunDirectory]) -> None:
    run = start_fake("--steps", "100000", "--delay", "0.01")
    answer = change(page, run=run.run_id, action="delete")
    assert answer.status_code == 400
    assert "stop it" in answer.get_json()["error"]
    assert run.path.exists()


@pytest.mark.parametrize("run_id", ["..", "../data", "/etc", ".trash", "", "a" * 300, "x\0y", None, 5])
def test_no_path_leaves_the_folder(page: Any, finished_run: RunDirectory, run_id: Any) -> None:
    for action in ("delete", "rename", "tag", "undelete", "archive", "unarchive"):
        assert change(page, run=run_id, action=action, label="x", tags=[]).status_code == 400


def test_a_link_out_of_the_folder_is_no_run(page: Any, finished_run: RunDirectory, tmp_path: Any) -> None:
    outside = tmp_path / "outside"
    finished_run.path.rename(outside)
    finished_run.path.symlink_to(outside)
    assert change(page, run=finished_run.run_id, action="rename", label="x").status_code == 400
    assert page.client.get(f"/api/runs/{finished_run.run_id}/log").status_code == 400


@pytest.mark.parametrize(
    ("data", "content_type"),
    [("x", "application/json"), ("[]", "application/json"), ('{"run": 1}', "text/plain"), ("a=b", None)],
)
def test_a_body_that_is_no_json_object_is_refused(page: Any, data: str, content_type: str | None) -> None:
    answer = page.client.post("/api/runs", data=data, content_type=content_type)
    assert answer.status_code == 400
    assert "JSON" in answer.get_json()["error"] or "json" in answer.get_json()["error"]


def test_config_and_log_of_a_run(page: Any, finished_run: RunDirectory) -> None:
    config = page.client.get(f"/api/runs/{finished_run.run_id}/config.yaml")
    assert b"geometric" in config.data
    assert "attachment" in config.headers["Content-Disposition"]
    (finished_run.path / "log.txt").write_text("line one\n")
    assert page.client.get(f"/api/runs/{finished_run.run_id}/log").get_json() == {"log": "line one\n"}


def test_the_queue_is_ordered_and_emptied(page: Any) -> None:
    from moe_hub.config import load_config
    from moe_hub.runs.queue import RunQueue

    queue = RunQueue(page.runs_dir)
    runs = []
    for name in ("a", "b", "c"):
        run = page.store.create(load_config(preset="basic_comparison", overrides=[f"name={name}"]), state="queued")
        queue.add(run.run_id)
        runs.append(run.run_id)

    def act(action: str, run: str) -> int:
        code: int = page.client.post("/api/queue", json={"action": action, "run": run}).status_code
        return code

    assert act("up", runs[2]) == 200
    assert act("down", runs[0]) == 200
    shown = page.client.get("/api/live").get_json()["runs"]["queue"]
    assert shown == {"waiting": [runs[2], runs[0], runs[1]], "worked": False}
    assert act("remove", runs[0]) == 200
    assert queue.waiting() == (runs[2], runs[1])
    assert act("remove", runs[0]) == 400
    assert act("jump", runs[1]) == 400


def test_the_threshold_of_a_running_ghost_run(page: Any, finished_run: RunDirectory) -> None:
    from moe_hub.runs import control

    body = {"run": finished_run.run_id, "ghost_threshold": 0.02}
    assert page.client.post("/api/runs/setting", json=body).status_code == 200
    assert [dict(each.values) for each in control.take(finished_run.path)] == [{"ghost_threshold": 0.02}]
    assert page.client.post("/api/runs/setting", json={**body, "ghost_threshold": 7}).status_code == 400
