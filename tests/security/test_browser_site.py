"""The example site in a real browser: sign in, train on the mounted page, watch it, sign out, be refused."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Watched, drawn_points, fill_small, until
from servers import ROOT, free_port, running

from moe_hub import launch
from moe_hub.runs.store import RunStore

PASSWORD = "correct horse battery"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, with one account that its own command made."""
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "flask", "--app", "examples.flask_site", "add-user", "ada", "--password", PASSWORD]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "SITE_FOLDER": str(place)}, timeout=120)
    return place


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The site as its README starts it."""
    port = free_port()
    found = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "flask", "--app", "examples.flask_site", "run", "--port", str(port)]
    with running(command, folder / "site.log", f"{found}/", SITE_FOLDER=str(folder)):
        yield found
        store = RunStore(folder / "runs")
        for run_id in store.ids():
            launch.escalate_stop(store.runs_dir / run_id, patience_s=1)


def test_passwords_and_key_are_the_users_own(folder: Path, address: str) -> None:
    for name in ("accounts.json", "secret_key"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert PASSWORD not in (folder / "accounts.json").read_text()
    assert "scrypt:" in (folder / "accounts.json").read_text()


def test_forms_of_other_sites_do_nothing(folder: Path, address: str) -> None:
    from examples.flask_site import create_app

    client = create_app(folder).test_client()
    right = {"name": "ada", "password": PASSWORD}
    assert client.post("/sign-in", data=right).status_code == 400
    assert client.post("/sign-in", data={**right, "form_token": "guessed"}).status_code == 400
    token = re.search(r'name="form_token" value="([^"]+)"', client.get("/sign-in").get_data(as_text=True))
    assert token
    wrong = [client.post("/sign-in", data={**right, "password": f"wrong{n}", "form_token": token[1]}) for n in range(9)]
    assert [answer.status_code for answer in wrong] == [403] * 8 + [429]
    assert client.get("/moe/", headers={"Accept": "text/html"}).headers["Location"] == "/sign-in"
    assert client.get("/moe/api/live").status_code == 401


def test_a_poll_under_way_brings_no_session_back(folder: Path, address: str) -> None:
    from examples.flask_site import create_app

    client = create_app(folder).test_client()
    token = re.search(r'name="form_token" value="([^"]+)"', client.get("/sign-in").get_data(as_text=True))
    assert token
    client.post("/sign-in", data={"name": "ada", "password": PASSWORD, "form_token": token[1]})
    for path in ("/moe/", "/moe/api/live", "/moe/healthz", "/moe/assets/tokens.css"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "Set-Cookie" not in answer.headers, path


@pytest.mark.browser
@pytest.mark.training
def test_a_person_signs_in_trains_and_signs_out(
    folder: Path, address: str, chrome: Any, request: pytest.FixtureRequest
) -> None:
    context = chrome.new_context(viewport={"width": 1440, "height": 900})
    request.addfinalizer(context.close)
    page = context.new_page()
    page.goto(f"{address}/moe/")
    until(lambda: page.url == f"{address}/sign-in")
    page.fill("#name", "ada")
    page.fill("#password", "not the password")
    page.click("button")
    until(lambda: "Name or password is wrong" in page.inner_text("[role=alert]"))
    watched = Watched(page, address)
    page.fill("#name", "ada")
    page.fill("#password", PASSWORD)
    page.click("button")
    page.wait_for_selector("#run-status .run-title")
    assert page.url.startswith(f"{address}/moe/")
    _train(page, RunStore(folder / "runs"))
    page.click("#sign-out")
    until(lambda: page.url == f"{address}/account")
    page.click("button:has-text('Sign out')")
    until(lambda: "You are signed out" in page.inner_text("main"))
    assert watched.wrong == []
    page.goto(f"{address}/moe/")
    until(lambda: page.url == f"{address}/sign-in")
    assert page.request.get(f"{address}/moe/api/live").status == 401
    assert page.request.get(f"{address}/moe/assets/tokens.css").status == 401


def _train(page: Any, store: RunStore) -> None:
    fill_small(page, **{"train-max_steps": "30000"})
    page.fill("#field-name", "on-the-site")
    until(lambda: "on-the-site" in page.inner_text("#command-preview"))
    until(lambda: page.is_enabled("#start-button"))
    page.click("#start-button")
    until(store.ids, 120)
    run = store.open(store.ids()[0])
    until(lambda: (found := run.status()) is not None and found.step > 3, 240)
    until(lambda: drawn_points(page) > 3, 120)
    seen = drawn_points(page)
    until(lambda: drawn_points(page) > seen, 120)
    page.click("#stop-button")
    until(lambda: run.state() == "stopped", 120)
