"""The sign-in page of a dashboard that other machines can reach: one token, then a cookie that scripts cannot read.

What several workers of one server must agree on lies in a private folder: wrong tokens, and sessions that were ended.
The cookie itself is signed, so any worker, and a restarted server, knows it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path

import flask
from flask import Flask, Request, Response

from moe_hub.web.guard import is_loopback_name, same_origin
from moe_hub.workbench.private_folder import private_folder

COOKIE_AGE_S = 30 * 24 * 3600
MOST_TRIES = 10  # wrong tokens from one address within `TRIES_WINDOW_S`
TRIES_WINDOW_S = 60.0
MOST_ADDRESSES = 1000
MOST_FORM_BYTES = 4096
_SESSION = re.compile(r"(\d{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})")

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; display: grid; place-items: center; min-height: 100vh; margin: 0; }}
form {{ display: grid; gap: 12px; width: min(320px, 90vw); }}
h1 {{ font-size: 20px; margin: 0; }}
input, button {{ font: inherit; padding: 8px 10px; border-radius: 6px; border: 1px solid GrayText; }}
p {{ margin: 0; }} .wrong {{ color: #c1121f; }} @media (prefers-color-scheme: dark) {{ .wrong {{ color: #ff8080; }} }}
</style></head><body><form method="post" action="{action}">
<h1>MoE Hub</h1><p class="wrong" role="alert">{message}</p>
{fields}
<button type="submit">{button}</button></form></body></html>"""
_TOKEN_FIELD = """<label for="token">Token that this server was started with</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


class SignIn:
    """Knows visitors by a cookie, or by `Authorization: Bearer TOKEN` for programs.

    `folder` is private to the user and shared by all workers; raises `ConfigError` where it cannot be.
    """

    def __init__(self, token: str, url_base_path: str, folder: Path) -> None:
        self.token = token
        self.prefix = f"/{url_base_path.strip('/')}/".replace("//", "/")
        self.path, self.out_path = f"{self.prefix}sign-in", f"{self.prefix}sign-out"
        private_folder(folder.parent)
        self._folder = private_folder(folder)
        # Slow to make, so that whoever copied a cookie cannot try out tokens against it quickly.
        self._key = hashlib.scrypt(token.encode(), salt=b"moe-hub session", n=2**14, r=8, p=1)
        # Cookies are shared by all ports of a host, so servers with other tokens need other names.
        self.cookie = f"moe_hub_{self._sign(self.prefix)[:8]}"
        self.server = Flask("moe_hub.web")
        # Before create_dashboard, so that its gate leaves these routes alone.
        for path, view in ((self.path, self.sign_in), (self.out_path, self.sign_out)):
            self.server.add_url_rule(path, path.rpartition("/")[2], view, methods=["GET", "POST"])

    def knows(self, request: Request) -> bool:
        """Whether the request carries a session's cookie or the token itself."""
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(bearer.strip(), self.token):
            return True
        return self._session(request) != ""

    def refuse(self, request: Request) -> Response:
        """The sign-in page for a person who opens a page, 401 for everything else."""
        if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
            return self._page("", 401)
        return flask.make_response({"error": "you are not signed in"}, 401)

    def sign_in(self) -> Response:
        """GET shows the page; POST checks the token and sets the cookie."""
        request = flask.request
        if request.method != "POST":
            return self._page("", 200)
        if not same_origin(request):
            return self._page("This form was sent from another site.", 403)
        request.max_content_length = MOST_FORM_BYTES
        given = request.form.get("token", "").strip()
        tries = self._tries_of(_address(request))
        if not _take_a_try(tries):
            return self._page("Too many wrong tokens; wait a minute.", 429)
        if not _equal(given, self.token):
            return self._page("This is not the token.", 403)
        with contextlib.suppress(OSError):
            tries.unlink()
        response = flask.make_response(flask.redirect(self.prefix, 303))
        self._set_cookie(response, self._new_session(), COOKIE_AGE_S)
        return response

    def sign_out(self) -> Response:
        """GET asks; POST ends the session on all workers and takes the cookie back."""
        request = flask.request
        if request.method != "POST":
            return self._page("", 200, out=True)
        if not same_origin(request):
            return self._page("This form was sent from another site.", 403, out=True)
        session = self._session(request)
        if session:
            (self._folder / f"ended-{session}").touch(mode=0o600)
            self._forget("ended-*", COOKIE_AGE_S)
        response = flask.make_response(flask.redirect(self.path, 303))
        self._set_cookie(response, "", 0)
        return response

    def _new_session(self) -> str:
        begun, name = f"{int(time.time())}", secrets.token_hex(16)
        return f"{begun}.{name}.{self._sign(f'{begun}.{name}')}"

    def _session(self, request: Request) -> str:
        """The name of the session in the request's cookie; empty where it is none, too old or ended."""
        found = _SESSION.fullmatch(request.cookies.get(self.cookie, ""))
        if found is None or not _equal(found[3], self._sign(f"{found[1]}.{found[2]}")):
            return ""
        if time.time() - int(found[1]) > COOKIE_AGE_S or (self._folder / f"ended-{found[2]}").exists():
            return ""
        return found[2]

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, f"{self.prefix} {text}".encode(), hashlib.sha256).hexdigest()

    def _set_cookie(self, response: Response, value: str, age_s: int) -> None:
        request = flask.request
        secure = request.is_secure or request.headers.get("X-Forwarded-Proto") == "https"
        response.set_cookie(
            self.cookie, value, max_age=age_s, httponly=True, samesite="Strict", path=self.prefix, secure=secure
        )
        response.headers["Cache-Control"] = "no-store"

    def _tries_of(self, address: str) -> Path:
        """The file in which all workers count the tries of an address."""
        if len(list(self._folder.glob("tries-*"))) > MOST_ADDRESSES:
            self._forget("tries-*", TRIES_WINDOW_S)
        return self._folder / f"tries-{hashlib.sha256(address.encode()).hexdigest()[:16]}"

    def _forget(self, pattern: str, age_s: float) -> None:
        for path in self._older(pattern, age_s):
            with contextlib.suppress(OSError):
                path.unlink()

    def _older(self, pattern: str, age_s: float) -> Iterator[Path]:
        for path in self._folder.glob(pattern):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > age_s:
                    yield path

    def _page(self, message: str, code: int, *, out: bool = False) -> Response:
        page = _PAGE.format(
            title="Sign out of MoE Hub" if out else "Sign in to MoE Hub",
            action=escape(self.out_path if out else self.path),
            message=escape(message),
            fields="" if out else _TOKEN_FIELD,
            button="Sign out" if out else "Sign in",
        )
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return Response(page, code, mimetype="text/html", headers=headers)


def _take_a_try(tries: Path) -> bool:
    """Counts a try before its token is looked at, so that many at once gain nothing; whether there was one left."""
    recent = _recent(tries)
    if recent >= MOST_TRIES:
        return False
    with tries.open("a" if recent else "w", encoding="ascii") as file:
        file.write(f"{time.time():.3f}\n")
    return _recent(tries) <= MOST_TRIES


def _recent(tries: Path) -> int:
    since = time.time() - TRIES_WINDOW_S
    with contextlib.suppress(OSError, ValueError):
        return sum(float(line) > since for line in tries.read_text(encoding="ascii").split())
    return 0


def _address(request: Request) -> str:
    """Whose tries are counted together: an IPv4 address or an IPv6 network; behind a proxy here, its visitor's."""
    address = request.remote_addr or ""
    forwarded = request.headers.get("X-Forwarded-For", "")
    if forwarded and (address == "" or is_loopback_name(address)):
        address = forwarded.rpartition(",")[2].strip()  # what the nearest proxy itself has seen
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(found), 64), strict=False))
    return str(found)


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))
