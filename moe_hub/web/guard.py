"""One gate for everything under the prefix: who may ask, from where, with what body, and how errors are answered.

`guard_views` wraps the view functions that the dashboard added to a Flask app, so the routes of the host stay as they
are. GET never changes state; what does is POST, with a JSON or binary body and an Origin of this very site.
"""

from __future__ import annotations

import ipaddress
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

import flask
from dash.exceptions import DependencyException, InvalidResourceError, PreventUpdate
from flask import Flask, Request, Response
from werkzeug.exceptions import HTTPException

from moe_hub.errors import MoeHubError
from moe_hub.web.compression import Compressor

logger = logging.getLogger(__name__)

MOST_CALLBACK_BYTES = 1 << 20
Authorize = Callable[[Request], bool]


@dataclass(frozen=True)
class Gate:
    """Rules of one mounted dashboard.

    `any_host`: the Host header may be any name, because `authorize` knows the visitor; else loopback names only.
    `refuse` answers a visitor that `authorize` turned away.
    """

    prefix: str
    authorize: Authorize | None
    any_host: bool
    policy: Callable[[], str]
    compressor: Compressor
    known_outputs: Callable[[], frozenset[str]]
    refuse: Callable[[Request], Response] | None = None


def guard_views(server: Flask, endpoints: Iterable[str], gate: Gate) -> None:
    """Wraps the view functions of these endpoints."""
    for endpoint in endpoints:
        server.view_functions[endpoint] = _guarded(server.view_functions[endpoint], gate)


def _guarded(view: Callable[..., Any], gate: Gate) -> Callable[..., Response]:
    @wraps(view)
    def answer(*args: Any, **kwargs: Any) -> Response:
        refused = _refusal(flask.request, gate)
        response = refused if refused is not None else _call(view, args, kwargs)
        return _with_headers(gate.compressor.compress(flask.request, response), gate)

    return answer


def _refusal(request: Request, gate: Gate) -> Response | None:
    if not gate.any_host and not is_loopback_name(_host_name(request.host)):
        return problem(403, f"host {request.host!r} is not this machine; open the page by 127.0.0.1 or localhost")
    if not _same_origin(request):
        return problem(403, "this request comes from another site")
    if gate.authorize is not None and not gate.authorize(request):
        return gate.refuse(request) if gate.refuse is not None else problem(401, "you are not signed in")
    if request.path == f"{gate.prefix}_dash-update-component":
        return _callback_problem(request, gate.known_outputs())
    return None


def is_loopback_name(name: str) -> bool:
    """Whether a host name or address means this machine."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _host_name(host: str) -> str:
    return (urlsplit(f"//{host}").hostname or "") if host else ""


def _same_origin(request: Request) -> bool:
    """Origin, where the browser sends one, is this site; without one, it must not say that it is another."""
    origin = request.headers.get("Origin")
    if origin is not None:
        # The scheme may differ behind a proxy that ends TLS.
        return urlsplit(origin).netloc == request.host
    site = request.headers.get("Sec-Fetch-Site", "none")
    navigates = request.method == "GET" and request.headers.get("Sec-Fetch-Mode") == "navigate"
    return site in ("same-origin", "none") or navigates


def _callback_problem(request: Request, known_outputs: frozenset[str]) -> Response | None:
    """What Dash would answer with a traceback for is refused here (dash 4.4 answers 500 to `[]`, `{}` and the like)."""
    if request.method != "POST":
        return problem(405, "callbacks are POST")
    if request.mimetype != "application/json":
        return problem(415, "a callback's body is application/json")
    if (request.content_length or 0) > MOST_CALLBACK_BYTES:
        return problem(413, f"a callback's body has at most {MOST_CALLBACK_BYTES} bytes")
    try:
        body = json.loads(request.get_data(cache=True))
    except ValueError:
        return problem(400, "the body is not JSON")
    if not _well_formed(body):
        return problem(400, "the body is not a callback request")
    if body["output"] not in known_outputs:
        return problem(404, "there is no such callback")
    return None


def _well_formed(body: Any) -> bool:
    if not isinstance(body, dict) or not isinstance(body.get("output"), str):
        return False
    if not isinstance(body.get("outputs"), dict | list) or not isinstance(body.get("changedPropIds", []), list):
        return False
    entries = [body.get("inputs", []), body.get("state", [])]
    return all(isinstance(part, list) and all(isinstance(item, dict | list) for item in part) for part in entries)


def _call(view: Callable[..., Any], args: Any, kwargs: Any) -> Response:
    try:
        return flask.make_response(view(*args, **kwargs))
    except PreventUpdate:
        return flask.make_response("", 204)
    except (DependencyException, InvalidResourceError, FileNotFoundError):
        return problem(404, "there is no such file")
    except MoeHubError as error:
        return problem(400, str(error))
    except HTTPException as error:
        return problem(error.code or 500, error.description or error.name)
    except Exception:
        logger.exception("%s %s failed", flask.request.method, flask.request.path)
        return problem(500, "the server could not answer this; its log says why")


def problem(code: int, message: str) -> Response:
    """An error as JSON: {"error": message}."""
    response = flask.make_response({"error": message}, code)
    response.headers["Cache-Control"] = "no-store"
    return response


def _with_headers(response: Response, gate: Gate) -> Response:
    if response.mimetype != "application/json":  # no document: a browser shows it as text, and nosniff keeps it so
        response.headers.setdefault("Content-Security-Policy", gate.policy())
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response
