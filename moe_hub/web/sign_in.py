"""The sign-in page of a dashboard that other machines can reach: one token, then a cookie that scripts cannot read."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from html import escape

import flask
from flask import Flask, Request, Response

COOKIE = "moe_hub_session"
COOKIE_AGE_S = 30 * 24 * 3600
MOST_TRIES = 10  # wrong tokens from one address within `TRIES_WINDOW_S`
TRIES_WINDOW_S = 60.0

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in to MoE Hub</title><style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; display: grid; place-items: center; min-height: 100vh; margin: 0; }}
form {{ display: grid; gap: 12px; width: min(320px, 90vw); }}
h1 {{ font-size: 20px; margin: 0; }}
input, button {{ font: inherit; padding: 8px 10px; border-radius: 6px; border: 1px solid GrayText; }}
p {{ margin: 0; }} .wrong {{ color: #c1121f; }} @media (prefers-color-scheme: dark) {{ .wrong {{ color: #ff8080; }} }}
</style></head><body><form method="post" action="{action}">
<h1>MoE Hub</h1><p class="wrong" role="alert">{message}</p>
<label for="token">Token that this server was started with</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button type="submit">Sign in</button></form></body></html>"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


class SignIn:
    """Knows visitors by a cookie, or by `Authorization: Bearer TOKEN` for programs."""

    def __init__(self, token: str, url_base_path: str) -> None:
        self.token = token
        self.prefix = f"/{url_base_path.strip('/')}/".replace("//", "/")
        self.path = f"{self.prefix}sign-in"
        # The cookie holds a digest, so a stolen cookie does not tell the token.
        self._session = hmac.new(token.encode(), b"moe-hub session", hashlib.sha256).hexdigest()
        self._tries: OrderedDict[str, list[float]] = OrderedDict()
        self.server = Flask("moe_hub.web")
        # Before create_dashboard, so that its gate leaves this route alone.
        self.server.add_url_rule(self.path, "sign-in", self.sign_in, methods=["GET", "POST"])

    def knows(self, request: Request) -> bool:
        """Whether the request carries the session's cookie or the token itself."""
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        cookie = request.cookies.get(COOKIE, "")
        return _equal(cookie, self._session) or (bool(bearer) and _equal(bearer, self.token))

    def refuse(self, request: Request) -> Response:
        """The sign-in page for a person who opens a page, 401 for everything else."""
        if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
            return self._page("", 401)
        return flask.make_response({"error": "you are not signed in"}, 401)

    def sign_in(self) -> Response:
        """GET shows the page; POST checks the token and sets the cookie."""
        request = flask.request
        if request.method == "GET":
            return self._page("", 200)
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            return self._page("This form was sent from another site.", 403)
        if self._too_many(str(request.remote_addr)):
            return self._page("Too many wrong tokens; wait a minute.", 429)
        if not _equal(request.form.get("token", "").strip(), self.token):
            self._tries.setdefault(str(request.remote_addr), []).append(time.monotonic())
            return self._page("This is not the token.", 403)
        response = flask.redirect(self.prefix, 303)
        response.set_cookie(
            COOKIE, self._session, max_age=COOKIE_AGE_S, httponly=True, samesite="Strict", path=self.prefix,
            secure=request.is_secure,
        )  # fmt: skip
        return flask.make_response(response)

    def _too_many(self, address: str) -> bool:
        since = time.monotonic() - TRIES_WINDOW_S
        recent = [moment for moment in self._tries.get(address, []) if moment > since]
        self._tries[address] = recent
        while len(self._tries) > 1000:
            self._tries.popitem(last=False)
        return len(recent) >= MOST_TRIES

    def _page(self, message: str, code: int) -> Response:
        page = _PAGE.format(action=escape(self.path), message=escape(message))
        return Response(
            page, code, mimetype="text/html", headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}
        )


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
