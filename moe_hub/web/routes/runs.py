"""What a person does with runs in the list: label, tag, archive, delete into the trash and take back."""

from __future__ import annotations

from typing import Any

import flask

from moe_hub import launch
from moe_hub.errors import RunError
from moe_hub.runs import control
from moe_hub.web.routes.asked import download, json_answer, json_body, number_of, text_of
from moe_hub.web.workbench import Workbench

MOST_TAGS = 20


def routes(workbench: Workbench) -> list[Any]:
    """Changes are POST; the files of a run are GET."""
    store = workbench.store

    def change() -> flask.Response:
        body = json_body()
        run_id = text_of(body, "run")
        action = text_of(body, "action")
        if action == "rename":
            store.rename(run_id, text_of(body, "label"))
        elif action == "tag":
            store.tag(run_id, _tags(body))
        elif action in ("archive", "unarchive"):
            store.archive(run_id, action == "archive")
        elif action == "delete":
            workbench.histories.close(run_id)
            store.delete(run_id)
        elif action == "undelete":
            store.undelete(run_id)
        else:
            raise RunError(f"action {action!r} is unknown; allowed: rename, tag, archive, unarchive, delete, undelete")
        workbench.index.forget()
        return json_answer({"run": run_id})

    def setting() -> flask.Response:
        body = json_body()
        run = store.open(text_of(body, "run"))
        low, high = control.SETTABLE["ghost_threshold"]
        value = number_of(body, "ghost_threshold", low, high, low)
        control.request(run.path, "set", ghost_threshold=value)
        return json_answer({"ghost_threshold": value})

    def queue() -> flask.Response:
        body = json_body()
        action = text_of(body, "action")
        if action == "start":
            launch.start_queue(workbench.runs_dir)
        else:
            _change_queue(workbench, text_of(body, "run"), action)
        workbench.index.forget()
        return json_answer({"action": action})

    def config(run_id: str) -> flask.Response:
        run = store.open(run_id)
        return download((run.path / "config.yaml").read_bytes(), f"{run_id}.yaml", "application/yaml")

    def log(run_id: str) -> flask.Response:
        return json_answer({"log": store.open(run_id).log_tail(64_000)})

    return [
        ("api/runs", change, "POST"),
        ("api/queue", queue, "POST"),
        ("api/runs/setting", setting, "POST"),
        ("api/runs/<run_id>/config.yaml", config, "GET"),
        ("api/runs/<run_id>/log", log, "GET"),
    ]


def _change_queue(workbench: Workbench, run_id: str, action: str) -> None:
    queue = workbench.index.queue
    waiting = queue.waiting()
    if action == "remove":
        queue.remove(run_id)
    elif action in ("up", "down") and run_id in waiting:
        queue.move(run_id, waiting.index(run_id) + (1 if action == "down" else -1))
    else:
        raise RunError(f"queue action {action!r} for {run_id!r}: allowed are up, down, remove for a waiting run, start")


def _tags(body: dict[str, Any]) -> list[str]:
    tags = body.get("tags")
    if not isinstance(tags, list) or len(tags) > MOST_TAGS or not all(isinstance(tag, str) for tag in tags):
        raise RunError(f"tags must be a list of at most {MOST_TAGS} texts")
    return tags
