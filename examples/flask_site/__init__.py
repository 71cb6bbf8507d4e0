"""A small site with accounts of its own, and MoE Hub at /moe/ for those who are signed in.

flask --app examples.flask_site add-user ada
flask --app examples.flask_site run
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from datetime import timedelta
from pathlib import Path

import click
from flask import Flask, Request, Response, flash, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response as Answer

from examples.flask_site.accounts import Accounts, SlowDown
from moe_hub.web import create_dashboard

HUB = "/moe/"


def create_app(folder: str | os.PathLike[str] | None = None) -> Flask:
    """The site. `folder` (or the variable SITE_FOLDER) holds accounts, key, and the runs and data of MoE Hub."""
    place = Path(folder or os.environ.get("SITE_FOLDER", "site-data"))
    place.mkdir(parents=True, exist_ok=True)
    site = Flask(__name__)
    site.config.update(
        SECRET_KEY=_secret_key(place / "secret_key"),
        SESSION_COOKIE_NAME="site_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=os.environ.get("SITE_TLS") == "1",
        PERMANENT_SESSION_LIFETIME=timedelta(hours=12),
        # The page polls: an answer under way while a person signs out would bring the old session back.
        SESSION_REFRESH_EACH_REQUEST=False,
        MAX_FORM_MEMORY_SIZE=10_000,
    )
    accounts = Accounts(place / "accounts.json")
    _add_pages(site, accounts)
    _add_commands(site, accounts)
    create_dashboard(
        site,
        url_base_path=HUB,
        runs_dir=place / "runs",
        data_dir=place / "data",
        authorize=lambda _: signed_in(accounts),
        refuse=_to_the_door,
        sign_out_path="/account",
    )
    return site


def signed_in(accounts: Accounts) -> bool:
    """Whether the session is of an account that still exists."""
    return accounts.knows(session.get("user", ""))


def _to_the_door(asked: Request) -> Response:
    """A person who opens a page goes to the sign-in form; a script hears that its session is over."""
    if asked.method == "GET" and "text/html" in asked.headers.get("Accept", ""):
        return Response(status=302, headers={"Location": url_for("sign_in")})
    return Response('{"error": "sign in again"}', 401, mimetype="application/json")


def _add_pages(site: Flask, accounts: Accounts) -> None:
    slow_down = SlowDown()

    @site.context_processor
    def known() -> dict[str, object]:
        return {"user": session.get("user") if signed_in(accounts) else None, "form_token": form_token, "hub": HUB}

    @site.after_request
    def headers(answer: Response) -> Response:
        # setdefault: the pages of MoE Hub come with a stricter policy of their own.
        answer.headers.setdefault(
            "Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
        )
        answer.headers.setdefault("X-Content-Type-Options", "nosniff")
        return answer

    @site.errorhandler(404)
    def not_found(_: Exception) -> tuple[str, int]:
        return render_template("message.html", title="Not here", text="This page does not exist."), 404

    @site.get("/")
    def home() -> str:
        return render_template("home.html")

    @site.route("/sign-in", methods=["GET", "POST"])
    def sign_in() -> str | tuple[str, int] | Answer:
        if request.method == "GET":
            return render_template("sign_in.html")
        if not form_is_ours():
            return render_template("sign_in.html", problem="This form is too old; try again."), 400
        name = request.form.get("name", "")
        if slow_down.refuses(name, request.remote_addr or ""):
            return render_template("sign_in.html", problem="Too many wrong passwords; wait a minute."), 429
        if not accounts.accepts(name, request.form.get("password", "")):
            slow_down.note(name, request.remote_addr or "")
            return render_template("sign_in.html", problem="Name or password is wrong."), 403
        session.clear()  # a session that somebody planted before is worth nothing now
        session.permanent = True
        session["user"] = name
        return redirect(HUB)

    @site.get("/account")
    def account() -> str | Answer:
        return render_template("account.html") if signed_in(accounts) else redirect(url_for("sign_in"))

    @site.post("/sign-out")
    def sign_out() -> tuple[str, int] | Answer:
        if not form_is_ours():
            return render_template("message.html", title="Not signed out", text="This form is too old."), 400
        session.clear()
        flash("You are signed out.")
        return redirect(url_for("home"))


def form_token() -> str:
    """What every form of the site carries; another site cannot know it (CSRF)."""
    if "form_token" not in session:
        session["form_token"] = secrets.token_urlsafe(24)
    return str(session["form_token"])


def form_is_ours() -> bool:
    """Whether the form that was sent carries the token of this session."""
    sent, known = request.form.get("form_token", ""), str(session.get("form_token", ""))
    return bool(known) and secrets.compare_digest(sent.encode(), known.encode())


def _add_commands(site: Flask, accounts: Accounts) -> None:
    @site.cli.command("add-user")
    @click.argument("name")
    @click.password_option()
    def add_user(name: str, password: str) -> None:
        """Adds an account, or gives it another password."""
        try:
            accounts.add(name, password)
        except ValueError as error:
            raise click.ClickException(str(error)) from None
        click.echo(f"{name} can sign in.")


def _secret_key(path: Path) -> bytes:
    """The key that signs sessions, made once and readable by this user alone."""
    if not path.exists():
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".key-")  # mode 0600
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
        with contextlib.suppress(FileExistsError):  # another worker was first: both take that key
            os.link(temporary, path)
        os.unlink(temporary)
    return path.read_bytes()
