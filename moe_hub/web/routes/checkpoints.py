"""The Models tab: list, compare, evaluate, download and delete checkpoints; resume a run or fork one."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import flask
from flask import Response

from moe_hub import launch
from moe_hub.errors import RunError
from moe_hub.runs.fork import fork
from moe_hub.runs.store import RunStore
from moe_hub.web.routes.asked import json_answer, json_body, text_of, whole_of
from moe_hub.web.workbench import Workbench
from moe_hub.web.zip_stream import zip_stream
from moe_hub.workbench import model_card
from moe_hub.workbench.checkpoints import (
    MOST_COMPARED,
    compare,
    delete_checkpoint,
    files_to_download,
    find_checkpoint,
    list_checkpoints,
)


def routes(workbench: Workbench) -> list[Any]:
    """Reading is GET, changing is POST."""
    store = workbench.store

    def listing() -> Response:
        return json_answer(list_checkpoints(store))

    def comparison() -> Response:
        keys = [key for key in flask.request.args.get("keys", "").split(",") if key]
        return json_answer(compare([find_checkpoint(store, key) for key in dict.fromkeys(keys)]))

    def download(key: str) -> Response:
        checkpoint = find_checkpoint(store, key)
        files = files_to_download(checkpoint.folder, whole=flask.request.args.get("whole") == "1")
        name = f"{checkpoint.run.run_id}-{checkpoint.folder.name}"
        return Response(
            zip_stream(files, name, {model_card.NAME: model_card.model_card(checkpoint.run, checkpoint.folder)}),
            mimetype="application/zip",
            headers={"Content-Disposition": f'attachment; filename="{name}.zip"', "Cache-Control": "no-store"},
        )

    def change() -> Response:
        body = json_body()
        action, key = text_of(body, "action"), text_of(body, "key")
        run_id = _act(workbench, action, key, body)
        workbench.index.forget()
        return json_answer({"run": run_id})

    def evaluate() -> Response:
        body = json_body()
        folders = [find_checkpoint(store, key).folder for key in _keys(body)]
        arguments = [*map(os.fspath, folders), "--json", "--data-of", os.fspath(_data_of(store, body))]
        data = text_of(body, "data", most=1000) if body.get("data") else ""
        if data:
            arguments += ["--data", workbench.data_source(data)]
        command = shlex.join(["python", "-m", "moe_hub.evaluate", *arguments])
        return json_answer({"job": workbench.jobs.start("moe_hub.evaluate", arguments), "command": command})

    return [
        ("api/checkpoints", listing, "GET"),
        ("api/checkpoints/compare", comparison, "GET"),
        ("api/checkpoints/<key>.zip", download, "GET"),
        ("api/checkpoints", change, "POST"),
        ("api/evaluate", evaluate, "POST"),
    ]


def _keys(body: dict[str, Any]) -> list[str]:
    keys = body.get("keys")
    if not isinstance(keys, list) or not 1 <= len(keys) <= MOST_COMPARED or not all(isinstance(k, str) for k in keys):
        raise RunError(f"keys must be a list of 1 to {MOST_COMPARED} checkpoints like RUN_ID@STEP")
    return list(dict.fromkeys(keys))


def _data_of(store: RunStore, body: dict[str, Any]) -> Path:
    """The checkpoint whose held-out data is the common set: the one that is named, or the first."""
    return find_checkpoint(store, text_of(body, "data_of") if body.get("data_of") else _keys(body)[0]).folder


def _act(workbench: Workbench, action: str, key: str, body: dict[str, Any]) -> str:
    checkpoint = find_checkpoint(workbench.store, key)
    if action == "delete":
        delete_checkpoint(checkpoint)
        return checkpoint.run.run_id
    if action == "resume":
        launch.start(checkpoint.run.path, resume=True)
        return checkpoint.run.run_id
    if action == "fork":
        steps = whole_of(body, "max_steps", 1, 100_000_000, 0)
        run = fork(workbench.store, key, [f"train.max_steps={steps}"] if steps else [])
        launch.start(run.path)
        return run.run_id
    raise RunError(f"action {action!r} is unknown; allowed: delete, resume, fork")
