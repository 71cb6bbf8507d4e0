"""Foreign hosts, origins, addresses, methods, tokens and bodies, on every route that the app has."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import threading
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import waitress
from surface import METHODS, callback_body, callbacks, filled, rules

from moe_hub.web.__main__ import SERVER, build, build_parser
from moe_hub.web.sign_in import COOKIE_AGE_S, MOST_TRIES, SignIn

HOSTS = (
    "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.8:8050", "[2001:db8::1]", "0.0.0.0",
    "localhost@evil.example", "[", "[::1", "127.0.0.1:99999999", "a b", "\xe9.example", "localhost\t",
)  # fmt: skip
ORIGINS = (
    "https://evil.example", "null", "http://localhost.evil.example", "http://localhost:1", "//localhost", "localhost",
    "http://", "http://[", "file://localhost", "http://evil@localhost", "",
)  # fmt: skip
TOKEN = "a-long-enough-token"
STRANGER = {"REMOTE_ADDR": "203.0.113.5"}


def snapshot(place: Any) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in place.runs_dir.rglob("*")
        if path.is_file() and path.name not in (".metrics.columns",)
    }


def test_a_foreign_or_broken_host_reaches_no_route(place: Any) -> None:
    for host, rule in product(HOSTS, rules(place.app.server)):
        for method in sorted(rule.methods or set()):
            answer = place.client.open(filled(rule, place.run_id), method=method, headers={"Host": host})
            assert answer.status_code in (400, 403, 404), (rule.rule, method, host)
            assert answer.status_code == 403 or not answer.data or host == "[" or b"<html" not in answer.data.lower()


def test_a_foreign_or_broken_origin_reaches_no_route(place: Any) -> None:
    before = snapshot(place)
    for origin, rule in product(ORIGINS, rules(place.app.server)):
        for method in sorted(rule.methods or set()):
            answer = place.client.open(filled(rule, place.run_id), method=method, headers={"Origin": origin})
            assert answer.status_code == 403, (rule.rule, method, origin)
    assert snapshot(place) == before


def test_another_machine_is_refused_even_where_it_names_this_one(place: Any) -> None:
    """A program, unlike a browser, can send any Host; and a proxy tells for whom it asks."""
    for rule in rules(place.app.server):
        for method in sorted(rule.methods or set()):
            path = filled(rule, place.run_id)
            assert place.client.open(path, method=method, environ_base=STRANGER).status_code == 403, rule.rule
    for headers in (
        {"X-Forwarded-For": "203.0.113.5"},
        {"X-Forwarded-For": "127.0.0.1, 203.0.113.5"},
        {"X-Forwarded-For": "203.0.113.5, 127.0.0.1"},
        {"X-Forwarded-For": "unknown"},
        {"X-Real-IP": "203.0.113.5"},
        {"Forwarded": 'for="[2001:db8::1]:4711";proto=https'},
        {"Forwarded": "for=127.0.0.1, For=203.0.113.5"},
    ):
        assert place.client.get("/api/live", headers=headers).status_code == 403, headers
    for headers in ({"X-Forwarded-For": "127.0.0.1"}, {"X-Real-IP": "::1"}, {"Forwarded": "for=127.0.0.1;proto=http"}):
        assert place.client.get("/api/live", headers=headers).status_code == 200, headers
    for address in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", ""):
        assert place.client.get("/api/live", environ_base={"REMOTE_ADDR": address}).status_code == 200, address


def test_only_post_changes_anything(place: Any) -> None:
    before = snapshot(place)
    tried = 0
    for rule in rules(place.app.server):
        for method in METHODS:
            if method == "POST":
                continue
            body = {"json": {"action": "delete", "run": place.run_id, "key": f"{place.run_id}@40"}}
            answer = place.client.open(filled(rule, place.run_id), method=method, **({} if method == "GET" else body))
            assert answer.status_code < 500, (rule.rule, method)
            if method == "OPTIONS":
                assert answer.status_code == 405, rule.rule
            tried += 1
    assert tried > 100
    assert snapshot(place) == before
    assert place.started == []


BODIES: dict[str, tuple[bytes, str]] = {
    "text": (b"action=delete", "text/plain"),
    "form": (b"action=delete", "application/x-www-form-urlencoded"),
    "multipart": (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x"),
    "xml": (b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>', "application/xml"),
    "no type": (b"{}", ""),
    "empty": (b"", "application/json"),
    "cut": (b'{"action": "dele', "application/json"),
    "not utf-8": (b'{"action": "\xff\xfe"}', "application/json"),
    "utf-16": ('{"action": "delete"}'.encode("utf-16"), "application/json"),
    "list": (b"[]", "application/json"),
    "number": (b"1e999", "application/json"),
    "digits": (b"1" * 6000, "application/json"),
    "deep list": (b"[" * 200_000, "application/json"),
    "deep object": (b'{"action":' * 100_000 + b"1" + b"}" * 100_000, "application/json"),
    "huge": (b'{"action": "' + b"a" * (2 << 20) + b'"}', "application/json"),
    "lone surrogate": (b'{"action": "\\ud800", "run": "\\udfff"}', "application/json"),
    "same key twice": (b'{"action": "delete", "action": "rename"}', "application/json"),
}


def test_a_body_of_another_kind_is_refused_everywhere(place: Any) -> None:
    before = snapshot(place)
    for (kind, (content, mimetype)), rule in product(BODIES.items(), rules(place.app.server)):
        if "POST" in (rule.methods or set()):
            answer = place.client.post(filled(rule, "0" * 16), data=content, content_type=mimetype)
            assert 400 <= answer.status_code < 500, (rule.rule, kind, answer.status_code)
            assert b"Traceback" not in answer.data
            assert len(answer.data) < 3000, (rule.rule, kind)  # what was sent is not sent back
    assert snapshot(place) == before


@pytest.mark.slow
def test_values_of_wrong_types_are_refused_in_every_callback(place: Any) -> None:
    values: list[Any] = [
        None,
        True,
        -1,
        1e308,
        [],
        [[]],
        {},
        {"a": {}},
        "x",
        "\0",
        {"nonce": 1, "values": 5},
        ["a"] * 999,
    ]
    for output, registered in callbacks(place.app).items():
        for value in values if not registered.get("background") else values[:1]:
            body = callback_body(output, registered, value)
            answer = place.client.post("/_dash-update-component", json=body)
            assert answer.status_code < 500, (output[:80], value)
            for part in ("inputs", "state", "outputs", "changedPropIds"):
                for wrong in (None, 5, "x", [5], [[]], {"a": 1}, [{"id": "no", "property": "no"}]):
                    code = place.client.post("/_dash-update-component", json={**body, part: wrong}).status_code
                    assert code < 500, (output[:80], part, wrong)


def test_background_jobs_of_others_cannot_be_named(place: Any) -> None:
    """`job` and `cancelJob` are process ids to Dash: without this server's signature they are nothing."""
    output, registered = next((key, each) for key, each in callbacks(place.app).items() if each.get("background"))
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        for name in ("job", "cancelJob", "oldJob"):
            address = f"/_dash-update-component?cacheKey=x&{name}={victim.pid}"
            assert place.client.post(address, json=callback_body(output, registered, None)).status_code < 500
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_a_body_without_a_length_is_counted_while_it_is_read(place: Any) -> None:
    """As gunicorn hands over a chunked body; waitress counts before it hands over."""
    for rule in rules(place.app.server):
        if "POST" not in (rule.methods or set()):
            continue
        for mimetype, size in (("application/json", 3 << 20), ("application/octet-stream", 17 << 20)):
            stream = io.BytesIO(b"0" * size)
            answer = place.client.post(
                filled(rule, "0" * 16), input_stream=stream, content_type=mimetype,
                environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
            )  # fmt: skip
            assert 400 <= answer.status_code < 500, (rule.rule, mimetype)
            assert stream.tell() <= (16 << 20) + (1 << 17), (rule.rule, mimetype)


@pytest.mark.slow
def test_stalled_uploads_hold_nobody_up_and_are_closed(place: Any) -> None:
    options = {**SERVER, "channel_timeout": 2, "cleanup_interval": 1}
    server: Any = waitress.create_server(place.app.server, host="127.0.0.1", port=0, **options)
    threading.Thread(target=server.run, daemon=True).start()
    stalled = []
    try:
        for number in range(40):
            each = socket.create_connection(("127.0.0.1", server.effective_port), timeout=30)
            head = b"POST /api/uploads/0000000000000000 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
            each.sendall(head if number % 2 else head + b"\r\n" + b"x" * 100)
            stalled.append(each)
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.effective_port), timeout=30) as quick:
            quick.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert quick.recv(100).startswith(b"HTTP/1.1 200")
        assert time.monotonic() - begun < 10
        for each in stalled:
            assert each.recv(1) == b""  # closed by the server, which waited 2 s and not for ever
    finally:
        for each in stalled:
            each.close()
        server.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Any:
    """The server with a token, as it is opened to other machines."""
    flags = ["--token", TOKEN, "--runs-dir", str(tmp_path / "r"), "--data-dir", str(tmp_path / "d")]
    return build(build_parser().parse_args([*flags, "--url-base-path", "/moe/"])).server


HEADERS: tuple[dict[str, str], ...] = (
    {},
    {"Authorization": "Bearer wrong-token-here"},
    {"Authorization": f"Bearer {TOKEN}x"},
    {"Authorization": f"Basic {TOKEN}"},
    {"Authorization": TOKEN},
    {"Authorization": "Bearer "},
    {"Authorization": "Bearer \xff\xfe"},
    {"Cookie": "moe_hub_session=1; moe_hub_=1"},
)


def test_no_route_is_open_without_the_token(guarded: Any) -> None:
    tried = 0
    for headers, rule in product(HEADERS, rules(guarded, "/moe/")):
        for method in sorted(rule.methods or set()):
            answer = guarded.test_client().open(
                filled(rule, "x"), method=method, headers=headers, environ_base=STRANGER
            )
            if rule.endpoint in ("sign-in", "sign-out"):
                assert answer.status_code < 500
                assert b"Token" in answer.data or method != "GET" or rule.endpoint == "sign-out"
                continue
            assert answer.status_code == 401, (rule.rule, method, headers)
            tried += 1
    assert tried > 400


def test_forged_stolen_and_old_cookies(guarded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = guarded.test_client()
    assert client.post("/moe/sign-in", data={"token": TOKEN}, environ_base=STRANGER).status_code == 303
    cookie = next(iter(client._cookies.values()))
    assert cookie.http_only
    assert cookie.same_site == "Strict"
    assert cookie.path == "/moe/"
    begun, name, mac = cookie.value.split(".")
    other = SignIn("another-long-token", "/moe/", tmp_path / "d" / ".background" / "other")
    elsewhere = SignIn(TOKEN, "/lab/", tmp_path / "d" / ".background" / "elsewhere")
    forged = [
        f"{begun}.{name}.{'0' * 64}", f"{int(begun) + 1}.{name}.{mac}", f"{begun}.{'0' * 32}.{mac}", mac, "", "..",
        other._new_session(), elsewhere._new_session(), f"{begun}.../../x.{mac}", cookie.value + "x",
    ]  # fmt: skip

    def code(value: str) -> int:
        stranger = guarded.test_client(use_cookies=False)
        return stranger.get("/moe/api/live", headers={"Cookie": f"{cookie.key}={value}"}).status_code

    assert code(cookie.value) == 200
    for value in forged:
        assert code(value) == 401, value
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + COOKIE_AGE_S + 5)
    assert code(cookie.value) == 401


def test_signing_out_ends_the_session_for_whoever_has_the_cookie(guarded: Any) -> None:
    client = guarded.test_client()
    client.post("/moe/sign-in", data={"token": TOKEN})
    cookie = next(iter(client._cookies.values()))
    copied = {"Cookie": f"{cookie.key}={cookie.value}"}
    assert guarded.test_client(use_cookies=False).get("/moe/api/live", headers=copied).status_code == 200
    foreign = client.post("/moe/sign-out", headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert client.get("/moe/sign-out").status_code == 200  # asks, and ends nothing
    assert client.get("/moe/api/live").status_code == 200
    assert client.post("/moe/sign-out").status_code == 303
    assert client.get("/moe/api/live").status_code == 401
    assert guarded.test_client(use_cookies=False).get("/moe/api/live", headers=copied).status_code == 401


def test_the_cookie_is_secure_behind_tls(guarded: Any) -> None:
    answer = guarded.test_client().post(
        "/moe/sign-in", data={"token": TOKEN}, headers={"X-Forwarded-Proto": "https", "Host": "lab.example"}
    )
    assert "Secure" in answer.headers["Set-Cookie"]
    plain = guarded.test_client().post("/moe/sign-in", data={"token": TOKEN})
    assert "Secure" not in plain.headers["Set-Cookie"]


def test_guesses_are_counted_over_all_workers_and_for_each_address(tmp_path: Path) -> None:
    flags = ["--token", TOKEN, "--runs-dir", str(tmp_path / "r"), "--data-dir", str(tmp_path / "d")]
    workers = [build(build_parser().parse_args(flags)).server for _ in range(2)]

    def guess(number: int, token: str, **more: Any) -> int:
        answer = workers[number % 2].test_client().post("/sign-in", data={"token": token}, **more)
        return int(answer.status_code)

    assert [guess(n, f"guess-{n}") for n in range(MOST_TRIES + 2)] == [403] * MOST_TRIES + [429] * 2
    assert guess(0, TOKEN) == 429
    assert guess(0, TOKEN, environ_base=STRANGER) == 303
    # Behind a proxy on this machine each visitor is counted alone; what a visitor claims of itself does not count.
    behind = {"headers": {"X-Forwarded-For": "198.51.100.7"}}
    assert guess(0, TOKEN, **behind) == 303
    for n in range(MOST_TRIES):
        guess(n, "wrong-guess", headers={"X-Forwarded-For": f"192.0.2.{n}, 198.51.100.9"})
    assert guess(0, TOKEN, headers={"X-Forwarded-For": "192.0.2.77, 198.51.100.9"}) == 429
    for n in range(MOST_TRIES):  # an IPv6 visitor has a whole network of addresses
        guess(n, "wrong-guess", environ_base={"REMOTE_ADDR": f"2001:db8:0:1::{n:x}"})
    assert guess(0, TOKEN, environ_base={"REMOTE_ADDR": "2001:db8:0:1:ffff::1"}) == 429
    assert guess(0, TOKEN, environ_base={"REMOTE_ADDR": "2001:db8:0:2::1"}) == 303
    folder = tmp_path / "d" / ".background" / "sign-in"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_size < 1000 for path in folder.iterdir())


def test_a_form_without_bounds_is_not_read(guarded: Any) -> None:
    answer = guarded.test_client().post("/moe/sign-in", data={"token": "x" * 100_000})
    assert answer.status_code == 413
    assert TOKEN not in answer.get_data(as_text=True)
