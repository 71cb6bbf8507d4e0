"""One gate for everything under the prefix: who may ask, from where, with what body, and how errors are answered.

`guard_views` wraps the view functions that the dashboard added to a Flask app, so the routes of the host stay as they
are. GET never changes state; what does is POST, with a JSON or binary body and an Origin of this very site.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

import flask
from dash.exceptions import DependencyException, InvalidResourceError, PreventUpdate
from flask import Flask, Request, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from moe_hub.errors import MoeHubError
from moe_hub.web.callback_requests import Registered, check_callback
from moe_hub.web.compression import Compressor

logger = logging.getLogger(__name__)

MOST_JSON_BYTES = 1 << 20
MOST_BINARY_BYTES = 16 << 20  # one chunk of an upload
MOST_MESSAGE = 4000  # characters; a message quotes what was sent
Authorize = Callable[[Request], bool]
_FORWARDED_FOR = re.compile(r"""for\s*=\s*"?([^;,"]+)""", re.IGNORECASE)


@dataclass(frozen=True)
class Gate:
    """Rules of one mounted dashboard.

    Without `authorize` only this machine is answered, by a loopback name. `refuse` answers a visitor that `authorize`
    turned away. `callbacks` are the registered ones, by output.
    """

    prefix: str
    authorize: Authorize | None
    policy: Callable[[], str]
    compressor: Compressor
    callbacks: Callable[[], Registered]
    refuse: Callable[[Request], Response] | None = None


def guard_views(server: Flask, endpoints: Iterable[str], gate: Gate) -> None:
    """Wraps the view functions of these endpoints; OPTIONS comes through the gate like every other method."""
    guarded = set(endpoints)
    for rule in server.url_map.iter_rules():
        if rule.endpoint in guarded:
            rule.provide_automatic_options = False  # type: ignore[attr-defined]  # else Flask answers without the view
    for endpoint in guarded:
        server.view_functions[endpoint] = _guarded(server.view_functions[endpoint], gate)


def _guarded(view: Callable[..., Any], gate: Gate) -> Callable[..., Response]:
    @wraps(view)
    def answer(*args: Any, **kwargs: Any) -> Response:
        refused = _refusal(flask.request, gate)
        response = refused if refused is not None else _call(_checked(view, gate), args, kwargs)
        return _with_headers(gate.compressor.compress(flask.request, response), gate)

    return answer


def _refusal(request: Request, gate: Gate) -> Response | None:
    """The answer to a visitor that is not let in; what `authorize` raises is the host's to answer."""
    elsewhere = _not_from_here(request) if gate.authorize is None else ""
    if elsewhere:
        return problem(403, elsewhere)
    if not same_origin(request):
        return problem(403, "this request comes from another site")
    if gate.authorize is not None and not gate.authorize(request):
        return gate.refuse(request) if gate.refuse is not None else problem(401, "you are not signed in")
    return None


def _checked(view: Callable[..., Any], gate: Gate) -> Callable[..., Any]:
    """The view, behind the checks of method and body."""

    def checked(*args: Any, **kwargs: Any) -> Any:
        request = flask.request
        if request.method == "OPTIONS":
            raise MethodNotAllowed(description="this page answers no OPTIONS")
        binary = request.mimetype == "application/octet-stream"
        # Also for a body without a length, which only some servers count.
        request.max_content_length = MOST_BINARY_BYTES if binary else MOST_JSON_BYTES
        if request.path == f"{gate.prefix}_dash-update-component":
            check_callback(request, gate.callbacks())
        return view(*args, **kwargs)

    return checked


def _not_from_here(request: Request) -> str:
    """Why a request is not of this machine; empty where it is.

    A browser cannot lie about Host, so that check stops DNS rebinding; another program can, so addresses are looked at
    as well. A proxy on this machine says for whom it asks.
    """
    if not is_loopback_name(_host_name(request.host)):
        return f"host {request.host!r} is not this machine; open the page by 127.0.0.1 or localhost"
    visitors = [request.remote_addr or "", *_forwarded_for(request)]
    if not all(visitor == "" or is_loopback_name(_host_name(visitor)) for visitor in visitors):
        return "this page is open to its own machine only; to others it opens with a token"
    return ""


def _forwarded_for(request: Request) -> list[str]:
    headers = request.headers
    plain = ",".join([*headers.getlist("X-Forwarded-For"), *headers.getlist("X-Real-Ip")])
    named = [each.strip() for text in headers.getlist("Forwarded") for each in _FORWARDED_FOR.findall(text)]
    return [address.strip() for address in plain.split(",") if address.strip()] + named


def is_loopback_name(name: str) -> bool:
    """Whether a host name or address means this machine."""
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _host_name(host: str) -> str:
    """The name without its port; empty for what is no host."""
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def same_origin(request: Request) -> bool:
    """Origin, where the browser sends one, is this site; without one, it must not say that it is another."""
    origin = request.headers.get("Origin")
    if origin is not None:
        scheme, _, site = origin.partition("://")
        # The scheme may differ behind a proxy that ends TLS.
        return scheme in ("http", "https") and site != "" and site == request.host
    site = request.headers.get("Sec-Fetch-Site", "none")
    navigates = request.method == "GET" and request.headers.get("Sec-Fetch-Mode") == "navigate"
    return site in ("same-origin", "none") or navigates


def _call(view: Callable[..., Any], args: Any, kwargs: Any) -> Response:
    try:
        return flask.make_response(view(*args, **kwargs))
    except PreventUpdate:
        return flask.make_response("", 204)
    except (DependencyException, InvalidResourceError, FileNotFoundError):
        return problem(404, "there is no such file")
    except MoeHubError as error:
        return problem(400, str(error)[:MOST_MESSAGE])
    except HTTPException as error:
        return problem(error.code or 500, error.description or error.name)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return problem(404, "there is no such file")
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
