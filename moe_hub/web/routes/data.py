"""The Data tab: uploads in chunks, preview and report of a source, uploaded files, and the token cache."""

from __future__ import annotations

from typing import Any

import flask
from flask import Response

from moe_hub.config import Config
from moe_hub.config.data import mixture_parts
from moe_hub.data import cache
from moe_hub.data.facts import cache_outlook
from moe_hub.errors import DataError
from moe_hub.web.routes.asked import json_answer, json_body, text_of, whole_of
from moe_hub.web.uploads import MOST_BYTES, MOST_CHUNK
from moe_hub.web.workbench import Workbench
from moe_hub.workbench.data_choice import data_arguments, data_config
from moe_hub.workbench.data_preview import preview


def routes(workbench: Workbench) -> list[Any]:
    """Listing and preview are GET; whatever writes or starts something is POST."""
    uploads = workbench.uploads

    def listing() -> Response:
        return json_answer({"files": uploads.files(), "unfinished": uploads.unfinished(), "cache": _cache()})

    def begin() -> Response:
        body = json_body()
        name, size = text_of(body, "name", most=500), whole_of(body, "size", 1, MOST_BYTES, 0)
        begun = uploads.begin(name, size, whole_of(body, "modified", 0, 1 << 53, 0))
        return json_answer({**begun, "chunk": MOST_CHUNK // 4})

    def upload_state(upload_id: str) -> Response:
        return json_answer(uploads.state(upload_id))

    def append(upload_id: str) -> Response:
        request = flask.request
        if request.mimetype != "application/octet-stream":
            raise DataError("a chunk is application/octet-stream")
        if (request.content_length or 0) > MOST_CHUNK:
            raise DataError(f"a chunk has at most {MOST_CHUNK:,} bytes")
        offset = request.args.get("offset", "")
        return json_answer(uploads.append(upload_id, int(offset) if offset.isdigit() else -1, request.get_data()))

    def show() -> Response:
        config = workbench.readable.require(_config(json_body()))
        try:
            return json_answer({**preview(config), "cached": cache_outlook(config)})
        except DataError as error:  # a file that cannot be read is what the preview is there to tell
            return json_answer({"unreadable": str(error)})

    def inspect() -> Response:
        return job("inspect")

    def prepare() -> Response:
        return job("prepare")

    def job(command: str) -> Response:
        config = workbench.readable.require(_config(json_body()))
        offline = "hub" not in (config.data.source, *(part.source for part in mixture_parts(config.data)))
        job_id = workbench.jobs.start("moe_hub.data", data_arguments(command, config), offline=offline)
        return json_answer({"job": job_id})

    def change() -> Response:
        body = json_body()
        action = text_of(body, "action")
        if action == "delete":
            uploads.remove(text_of(body, "name"))
        elif action == "discard":
            uploads.discard(text_of(body, "upload"))
        elif action == "purge":
            cache.purge(cache.default_cache_dir(), _keys(body))
        else:
            raise DataError(f"action {action!r} is unknown; allowed: delete, discard, purge")
        return listing()

    return [
        ("api/data", listing, "GET"),
        ("api/data", change, "POST"),
        ("api/data/preview", show, "POST"),
        ("api/data/inspect", inspect, "POST"),
        ("api/data/prepare", prepare, "POST"),
        ("api/uploads", begin, "POST"),
        ("api/uploads/<upload_id>", append, "POST"),
        ("api/uploads/<upload_id>", upload_state, "GET"),
    ]


def _cache() -> dict[str, Any]:
    root = cache.default_cache_dir()
    rows = [
        {
            "key": entry.key,
            "bytes": entry.size,
            "used": entry.used,
            "source": entry.parts.get("source", ""),
            "tokenizer": entry.parts.get("tokenizer", ""),
        }
        for entry in cache.entries(root)
    ]
    return {"folder": str(root), "entries": rows}


def _config(body: dict[str, Any]) -> Config:
    """A config with the data settings and sequence length of the request; raises `MoeHubError`."""
    asked = body.get("data")
    if not isinstance(asked, dict):
        raise DataError("data must be an object of data settings")
    width = whole_of(body, "max_seq_len", 1, 1 << 24, 0)
    return data_config(asked, width or None)


def _keys(body: dict[str, Any]) -> set[str] | None:
    """The keys to purge; None for all."""
    keys = body.get("keys")
    if keys is None:
        return None
    if not isinstance(keys, list) or not keys or not all(isinstance(key, str) and len(key) == 32 for key in keys):
        raise DataError("keys must be a list of keys of the cache")
    return set(keys)
