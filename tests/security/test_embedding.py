"""Mounted on a host: the host stays as it was, `authorize` stands before everything, and two share nothing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import flask
import pytest
from surface import filled, rules
from web_fixtures import write_run

from moe_hub.errors import ConfigError
from moe_hub.web import create_dashboard

pytestmark = pytest.mark.slow

HOST_POLICY = "default-src 'self'"


def make_host() -> flask.Flask:
    """A site with handlers, hooks, a session and a policy of its own."""
    host = flask.Flask("host")
    host.secret_key = "of the host"

    @host.before_request
    def count() -> Any:
        flask.session["visits"] = flask.session.get("visits", 0) + 1
        return ("closed for today", 503) if flask.request.headers.get("X-Closed") else None

    @host.after_request
    def policy(answer: flask.Response) -> flask.Response:
        answer.headers.setdefault("Content-Security-Policy", HOST_POLICY)
        answer.headers["X-Host"] = "was here"
        return answer

    host.register_error_handler(404, lambda _: ("the host's own 404", 404))
    host.register_error_handler(500, lambda _: ("the host's own 500", 500))
    host.register_error_handler(KeyError, lambda _: ("the host's own KeyError", 418))
    host.add_url_rule("/", "home", lambda: f"home {flask.session['visits']}")
    host.add_url_rule("/broken", "broken", lambda: 1 / 0)
    host.add_url_rule("/key", "key", lambda: {}["none"])
    host.add_url_rule("/sign-in", "sign_in", lambda: flask.session.update(user="ada") or "welcome", methods=["POST"])
    host.add_url_rule("/moe", "near", lambda: "a page of the host beside the prefix")
    host.add_url_rule("/moebius", "moebius", lambda: "another")
    return host


def test_the_host_is_as_it_was(tmp_path: Path) -> None:
    plain, host = make_host(), make_host()
    before = {
        "views": dict(host.view_functions),
        "handlers": copy.deepcopy(host.error_handler_spec),
        "after": copy.deepcopy(host.after_request_funcs),
        "teardown": copy.deepcopy(host.teardown_request_funcs),
        "contexts": list(host.template_context_processors[None]),
        "config": dict(host.config),
        "filters": set(host.jinja_env.filters),
    }
    create_dashboard(host, url_base_path="/moe/", runs_dir=tmp_path / "r", data_dir=tmp_path / "d")
    assert all(host.view_functions[name] is view for name, view in before["views"].items())
    assert {str(rule) for rule in plain.url_map.iter_rules()} == {
        str(rule) for rule in host.url_map.iter_rules() if not rule.rule.startswith("/moe/")
    }
    assert host.error_handler_spec == before["handlers"]
    assert host.after_request_funcs == before["after"]
    assert host.teardown_request_funcs == before["teardown"]
    assert host.template_context_processors[None] == before["contexts"]
    assert dict(host.config) == before["config"]
    assert set(host.jinja_env.filters) == before["filters"]
    one, other = plain.test_client(), host.test_client()
    for method in ("GET", "POST", "OPTIONS", "HEAD", "DELETE"):
        for path in ("/", "/broken", "/key", "/none", "/moe", "/moebius", "/sign-in", "/static/x"):
            was, now = one.open(path, method=method), other.open(path, method=method)
            assert (was.status_code, was.data) == (now.status_code, now.data), (method, path)
            assert dict(was.headers).keys() == dict(now.headers).keys(), (method, path)
            assert was.headers["Content-Security-Policy"] == now.headers["Content-Security-Policy"] == HOST_POLICY


def test_hooks_and_session_of_the_host_reach_the_page(tmp_path: Path) -> None:
    host = make_host()
    create_dashboard(host, url_base_path="/moe/", runs_dir=tmp_path / "r", data_dir=tmp_path / "d")
    client = host.test_client()
    page = client.get("/moe/")
    assert page.headers["X-Host"] == "was here"
    assert "script-src" in page.headers["Content-Security-Policy"]  # its own, which the host's setdefault leaves
    assert client.get("/").data == b"home 2"
    assert client.get("/moe/api/live", headers={"X-Closed": "1"}).status_code == 503
    # An error below the prefix is answered there, and not by a page of the host.
    answer = client.get("/moe/api/runs/none/log")
    assert set(answer.get_json()) == {"error"}


def test_authorize_stands_before_everything(tmp_path: Path) -> None:
    host = make_host()
    asked: list[str] = []

    def member(request: flask.Request) -> bool:
        asked.append(request.path)
        return flask.session.get("user") == "ada"

    folders = {"runs_dir": tmp_path / "r", "data_dir": tmp_path / "d"}
    create_dashboard(host, url_base_path="/moe/", authorize=member, **folders)
    run_id = write_run(tmp_path / "r", 20).run_id
    paths = [(rule, method) for rule in rules(host, "/moe/") for method in sorted(rule.methods or set())]
    kinds = (
        "/moe/", "assets", "_dash-update-component", "_dash-layout", "_dash-component-suites", "api/uploads",
        "api/live", "metrics.csv", "report.html", ".zip", "api/generate", "healthz",
    )  # fmt: skip
    assert all(any(kind in rule.rule for rule, _ in paths) for kind in kinds)
    stranger = host.test_client()
    for rule, method in paths:
        asked.clear()
        answer = stranger.open(filled(rule, run_id), method=method)
        assert answer.status_code == 401, (rule.rule, method)
        assert len(asked) == 1, (rule.rule, method)
        assert method == "HEAD" or set(answer.get_json()) == {"error"}
    inside = host.test_client()
    inside.post("/sign-in")
    for rule, method in paths:
        assert inside.open(filled(rule, run_id), method=method).status_code != 401, (rule.rule, method)
    named = {"Host": "lab.example"}  # a host that knows its visitors may have any name
    assert inside.post("/sign-in", headers=named).status_code == 200
    assert inside.get("/moe/api/live", headers=named).status_code == 200
    assert inside.post("/moe/api/runs", json={}, headers={"Origin": "https://evil.example"}).status_code == 403


def test_authorize_may_answer_by_itself(tmp_path: Path) -> None:
    """What it raises goes to the host: a redirect to its own form, or one of its error pages."""
    host = make_host()

    def to_the_form(request: flask.Request) -> bool:
        flask.abort(flask.redirect("/sign-in"))

    def missing(request: flask.Request) -> bool:
        flask.abort(404)

    for name, each in (("a", to_the_form), ("b", missing)):
        folders = {"runs_dir": tmp_path / name, "data_dir": tmp_path / f"{name}-data"}
        create_dashboard(host, url_base_path=f"/{name}/", authorize=each, **folders)
    assert host.test_client().get("/a/").headers["Location"] == "/sign-in"
    assert host.test_client().get("/b/healthz").data == b"the host's own 404"


def test_two_dashboards_share_nothing(tmp_path: Path) -> None:
    host = make_host()
    runs = {}
    for name in ("one", "two"):
        create_dashboard(
            host, url_base_path=f"/lab/{name}/", runs_dir=tmp_path / name, data_dir=tmp_path / f"{name}-data",
            authorize=lambda request, name=name: flask.request.headers.get("X-Who") == name,
        )  # fmt: skip
        runs[name] = write_run(tmp_path / name, 20, name=f"of-{name}").run_id
    client = host.test_client()

    def ask(name: str, path: str, who: str = "", **more: Any) -> Any:
        headers = {"X-Who": who or name}
        return client.open(f"/lab/{name}/{path}", headers=headers, **more)

    for name, other in (("one", "two"), ("two", "one")):
        found = ask(name, "api/live").get_json()["runs"]["rows"]
        assert [row["id"] for row in found] == [runs[name]]
        assert ask(name, f"api/runs/{runs[other]}/log").status_code == 400
        assert ask(name, f"api/runs/{runs[name]}/log").status_code == 200
        assert ask(name, "api/live", who=other).status_code == 401
        assert f'data-prefix="/lab/{name}/"' in ask(name, "").get_data(as_text=True)
        begun = ask(name, "api/uploads", method="POST", json={"name": "a.jsonl", "size": 12}).get_json()
        part = {"data": b'{"text":"a"}', "content_type": "application/octet-stream", "method": "POST"}
        assert ask(other, f"api/uploads/{begun['upload']}?offset=0", **part).status_code == 400
        assert ask(name, f"api/uploads/{begun['upload']}?offset=0", **part).status_code == 200
        change = {"method": "POST", "json": {"action": "save", "name": f"mine-{name}", "values": {}}}
        ask(name, "api/presets", **change)
        assert ask(other, f"api/presets/mine-{name}.yaml").status_code == 400
    before = ask("two", "api/live").get_json()["runs"]["rows"]
    change = {"method": "POST", "json": {"action": "delete", "run": runs["one"]}}
    assert ask("one", "api/runs", **change).status_code == 200
    assert ask("two", "api/live").get_json()["runs"]["rows"] == before


def test_wrong_places_are_named(tmp_path: Path) -> None:
    host = make_host()
    folders = {"runs_dir": tmp_path / "r", "data_dir": tmp_path / "d"}
    with pytest.raises(ConfigError, match="is taken"):
        create_dashboard(host, url_base_path="/", **folders)
    create_dashboard(host, url_base_path="/moe/", **folders)
    with pytest.raises(ConfigError, match="is taken"):
        create_dashboard(host, url_base_path="/moe/", **folders)
    host.test_client().get("/")
    with pytest.raises(ConfigError, match="before it is served"):
        create_dashboard(host, url_base_path="/late/", **folders)
