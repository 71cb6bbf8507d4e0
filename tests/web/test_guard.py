"""The gate: host, origin, authorization, bodies, errors, headers, and that a host app stays as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flask
import pytest

from moe_hub.errors import ConfigError
from moe_hub.web import create_dashboard

PATHS = ["/", "/anything/at/all", "/healthz", "/api/live", "/_dash-layout", "/_dash-dependencies", "/assets/tokens.css"]


@pytest.mark.parametrize("path", PATHS)
def test_another_host_name_is_refused(page: Any, path: str) -> None:
    assert page.client.get(path).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "10.0.0.8:8050", ""):
        assert page.client.get(path, headers={"Host": host}).status_code == 403, host
    for host in ("127.0.0.1:8050", "localhost", "[::1]:8050"):
        assert page.client.get(path, headers={"Host": host}).status_code == 200, host


@pytest.mark.parametrize("path", ["/api/runs", "/api/presets", "/_dash-update-component"])
def test_a_request_of_another_site_is_refused(page: Any, path: str) -> None:
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert page.client.post(path, json={}, headers=headers).status_code == 403, headers
    same = page.client.post(path, json={}, headers={"Origin": "http://localhost"})
    assert same.status_code != 403


def test_a_link_from_another_site_opens_the_page(page: Any) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert page.client.get("/", headers=headers).status_code == 200
    headers["Sec-Fetch-Mode"] = "no-cors"
    assert page.client.get("/api/live", headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("[]", 400),
        ("{}", 400),
        ("null", 400),
        ("{", 400),
        ('{"output": 5, "outputs": []}', 400),
        ('{"output": "control-message.children", "outputs": [], "inputs": "a"}', 400),
        ("[" * 100_000, 400),
        ('{"output": "ticked.data", "outputs": {}, "inputs": []}', 404),
        ('{"output": "no.such", "outputs": [], "inputs": []}', 404),
    ],
)
def test_a_malformed_callback_gets_an_answer_and_no_traceback(page: Any, body: str, code: int) -> None:
    answer = page.client.post("/_dash-update-component", data=body, content_type="application/json")
    assert answer.status_code == code
    assert b"Traceback" not in answer.data
    assert set(answer.get_json()) == {"error"}


def test_callback_bodies_are_limited_in_type_and_size(page: Any) -> None:
    address = "/_dash-update-component"
    assert page.client.post(address, data="{}", content_type="text/plain").status_code == 415
    large = page.client.post(address, data="x" * (1 << 20 | 1), content_type="application/json")
    assert large.status_code == 413
    assert page.client.get(address).status_code == 405


def test_an_unknown_component_file_is_not_found(page: Any) -> None:
    for path in ("dash/no-such-file.js", "no_such_package/x.js", "dash/../../setup.py"):
        answer = page.client.get(f"/_dash-component-suites/{path}")
        assert answer.status_code in (404, 400), path
        assert b"Traceback" not in answer.data


def test_every_route_asks_authorize(tmp_path: Path) -> None:
    host = flask.Flask("host")
    host.add_url_rule("/own", "own", lambda: "own page")
    asked: list[str] = []

    def authorize(request: flask.Request) -> bool:
        asked.append(request.path)
        return False

    before = dict(host.view_functions)
    create_dashboard(host, url_base_path="/moe/", runs_dir=tmp_path / "r", data_dir=tmp_path / "d", authorize=authorize)
    assert all(host.view_functions[name] is view for name, view in before.items())
    client = host.test_client()
    assert client.get("/own").data == b"own page"
    assert not asked
    for rule in host.url_map.iter_rules():
        if not rule.rule.startswith("/moe/"):
            continue
        path = rule.rule
        for name in rule.arguments:
            path = path.replace(f"<{name}>", "x").replace(f"<path:{name}>", "x/y").replace(f"<string:{name}>", "x")
        for method in (rule.methods or set()) & {"GET", "POST", "DELETE", "PUT"}:
            assert client.open(path, method=method).status_code == 401, (method, path)
    assert client.get("/outside").status_code == 404


def test_get_changes_nothing(page: Any, finished_run: Any) -> None:
    def everything() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in page.runs_dir.rglob("*") if p.is_file() and ".cache" not in p.name}

    before = everything()
    for rule in page.app.server.url_map.iter_rules():
        if "GET" in (rule.methods or set()):
            path = rule.rule.replace("<run_id>", finished_run.run_id)
            page.client.get(path, query_string={"runs": finished_run.run_id, "focus": finished_run.run_id})
    assert {path: content for path, content in everything().items() if path in before} == before
    assert finished_run.path.exists()


def test_headers_keep_scripts_and_frames_of_others_out(page: Any) -> None:
    headers = page.client.get("/").headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert "unsafe-inline" not in scripts
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_policy_comes_with_all_but_json(page: Any, finished_run: Any) -> None:
    """A poll each second carries no policy that only documents and scripts obey; whatever may be shown as one does."""
    for path in ("/", "/assets/core.js", f"/api/runs/{finished_run.run_id}/config.yaml", "/api/nothing-here"):
        assert "default-src 'none'" in page.client.get(path).headers["Content-Security-Policy"], path
    report = page.client.get(f"/api/runs/{finished_run.run_id}/report.html").headers
    assert "default-src 'none'" in report["Content-Security-Policy"]
    answer = page.client.get("/api/live")
    assert answer.mimetype == "application/json"
    assert "Content-Security-Policy" not in answer.headers
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_two_dashboards_live_on_one_host(tmp_path: Path) -> None:
    host = flask.Flask("host")
    for name in ("one", "two"):
        create_dashboard(host, url_base_path=f"/{name}/", runs_dir=tmp_path / name, data_dir=tmp_path / f"{name}-data")
    client = host.test_client()
    for name in ("one", "two"):
        assert client.get(f"/{name}/healthz").get_json()["status"] == "ok"
        assert len(client.get(f"/{name}/_dash-dependencies").get_json()) > 5
    assert client.get("/healthz").status_code == 404


def test_a_prefix_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="url_base_path"):
        create_dashboard(url_base_path="/a b/", runs_dir=tmp_path, data_dir=tmp_path)
