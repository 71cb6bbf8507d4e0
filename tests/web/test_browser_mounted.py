"""Mounted under a prefix in somebody's Flask site, in a real browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
import waitress
from browser import Watched, drawn_points, until
from conftest import write_run

from moe_hub.web import create_dashboard

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
    threading.Thread(target=server.run, daemon=True).start()
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
