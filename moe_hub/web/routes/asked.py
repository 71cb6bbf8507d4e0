"""What a request says: run ids, JSON bodies, answers in JSON; wrong ones are errors for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import flask
import orjson
from flask import Response

from moe_hub.errors import RunError
from moe_hub.web.drawings import MOST_RUNS

MOST_BODY_BYTES = 1 << 20


def run_ids(name: str = "runs") -> list[str]:
    """Ids in a comma separated parameter of the query, at most `MOST_RUNS`."""
    text = flask.request.args.get(name, "")
    return list(dict.fromkeys(part for part in text.split(",") if part))[:MOST_RUNS]


def json_body() -> dict[str, Any]:
    """The JSON object of a POST; raises `RunError` for anything else."""
    request = flask.request
    if request.mimetype != "application/json":
        raise RunError("the body must be application/json")
    if (request.content_length or 0) > MOST_BODY_BYTES:
        raise RunError(f"the body has more than {MOST_BODY_BYTES} bytes")
    try:
        body = orjson.loads(request.get_data())
    except ValueError:
        raise RunError("the body is not JSON") from None
    if not isinstance(body, dict):
        raise RunError("the body must be a JSON object")
    return body


def text_of(body: dict[str, Any], name: str, *, most: int = 200) -> str:
    """A text of the body; raises `RunError` where it is missing, of another type or too long."""
    value = body.get(name)
    if not isinstance(value, str) or len(value) > most:
        raise RunError(f"{name} must be a text of at most {most} characters")
    return value


def whole_of(body: dict[str, Any], name: str, low: int, high: int, default: int) -> int:
    """A whole number of the body within bounds, `default` where it is missing; raises `RunError`."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RunError(f"{name} = {value!r}: a whole number from {low:,} to {high:,} is needed")
    return value


def number_of(body: dict[str, Any], name: str, low: float, high: float, default: float) -> float:
    """A number of the body within bounds, `default` where it is missing; raises `RunError`."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RunError(f"{name} = {value!r}: a number from {low:g} to {high:g} is needed")
    return float(value)


def json_answer(value: Any) -> Response:
    """A value as JSON that is not kept by the browser."""
    return raw_json(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


def raw_json(content: bytes) -> Response:
    """JSON text that is ready."""
    return Response(content, mimetype="application/json", headers={"Cache-Control": "no-store"})


def download(content: str | bytes | Iterator[bytes], name: str, mimetype: str) -> Response:
    """A file for the person to keep."""
    quoted = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)
    return Response(
        content,
        mimetype=mimetype,
        headers={"Content-Disposition": f'attachment; filename="{quoted}"', "Cache-Control": "no-store"},
    )
