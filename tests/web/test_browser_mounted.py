"""Mounted under a prefix in somebody's Flask site, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
import waitress
from browser import Watched, drawn_points, run_in_thread, until
from conftest import write_run

from moe_hub.web import create_dashboard
from moe_hub.web.__main__ import build, build_parser

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture
def host_site(tmp_path: Path) -> Iterator[str]:
    """A Flask site with a page of its own and the dashboard under /lab/moe/, open to those with a cookie."""
    host = flask.Flask("host")
    host.add_url_rule("/", "home", lambda: "<h1>home of the host</h1>")
    write_run(tmp_path / "runs", 40)
    create_dashboard(
        host,
        url_base_path="/lab/moe/",
        runs_dir=tmp_path / "runs",
        data_dir=tmp_path / "data",
        authorize=lambda request: request.cookies.get("member") == "yes",
    )
    server: Any = waitress.create_server(host, host="127.0.0.1", port=0, threads=8)
    run_in_thread(server)
    yield f"http://127.0.0.1:{server.effective_port}"
    server.close()


def test_the_page_works_under_a_prefix_for_members_only(
    host_site: str, chrome: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    context = chrome.new_context(viewport={"width": 1440, "height": 900})
    request.addfinalizer(context.close)
    page = context.new_page()
    assert page.goto(f"{host_site}/lab/moe/").status == 401
    assert "home of the host" in page.goto(host_site).text()
    context.add_cookies([{"name": "member", "value": "yes", "url": host_site}])
    page = context.new_page()
    watched = Watched(page, host_site)
    page.goto(f"{host_site}/lab/moe/")
    until(lambda: drawn_points(page) >= 40)
    until(lambda: page.is_enabled("#start-button"))
    page.fill("#field-model-num_experts", "6")
    until(lambda: "model.num_experts=6" in page.inner_text("#command-preview"))
    page.click("#tab-data")
    until(lambda: page.is_visible("#dataset-preview"))
    assert page.evaluate("() => document.fonts.check('13px \"Plex Sans\"')")
    assert watched.wrong == []


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[str]:
    """The page as it is opened to other machines, with a token."""
    write_run(tmp_path / "runs", 40)
    flags = ["--token", "the-right-token", "--runs-dir", str(tmp_path / "runs"), "--data-dir", str(tmp_path / "data")]
    app = build(build_parser().parse_args(flags))
    server: Any = waitress.create_server(app.server, host="127.0.0.1", port=0, threads=8)
    run_in_thread(server)
    yield f"http://127.0.0.1:{server.effective_port}/"
    server.close()


def test_a_token_opens_the_page_until_sign_out(open_site: str, chrome: Any, request: pytest.FixtureRequest) -> None:
    context = chrome.new_context(viewport={"width": 1440, "height": 900})
    request.addfinalizer(context.close)
    page = context.new_page()
    assert page.goto(open_site).status == 401
    for guess in ("wrong", "<b id=planted>wrong</b>"):
        page.fill("#token", guess)
        page.click("button")
        until(lambda: "This is not the token" in page.inner_text("[role=alert]"))
    assert page.locator("#planted").count() == 0
    watched = Watched(page, open_site)
    page.fill("#token", "the-right-token")
    page.keyboard.press("Enter")
    page.wait_for_selector("#run-status .run-title")
    until(lambda: drawn_points(page) >= 40)
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    assert page.evaluate("() => document.cookie") == ""
    assert "the-right-token" not in page.content() + cookie["value"]
    page.click("#sign-out")
    page.click("button:has-text('Sign out')")
    until(lambda: page.is_visible("#token"))
    assert context.cookies() == []
    assert watched.wrong == []
    context.add_cookies([cookie])  # a copy that somebody kept
    assert page.goto(open_site).status == 401


def test_too_many_guesses_are_refused_for_a_while(open_site: str, chrome: Any, request: pytest.FixtureRequest) -> None:
    context = chrome.new_context()
    request.addfinalizer(context.close)
    page = context.new_page()
    page.goto(f"{open_site}sign-in")
    for number in range(11):
        page.fill("#token", f"guess {number}")
        with page.expect_navigation():
            page.click("button")
    until(lambda: "Too many wrong tokens" in page.inner_text("[role=alert]"))
    page.fill("#token", "the-right-token")
    page.click("button")
    until(lambda: "Too many wrong tokens" in page.inner_text("[role=alert]"))
