"""Behind Debian's nginx under a prefix, with the very file that the documents show."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser import Watched, drawn_points, until
from fake_trainer import TOKENS_PER_STEP, rows_of
from servers import ROOT, free_port, running
from web_fixtures import write_run

from moe_hub.runs.writer import MetricWriter

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CONFIG = ROOT / "examples" / "nginx" / "moe_hub.conf"
TLS = ROOT / "examples" / "nginx" / "moe_hub_tls.conf"
TOKEN = "behind-a-proxy-9"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(NGINX is None, reason="no nginx on this machine; `make nginx` installs it"),
]


@dataclass
class Proxied:
    """A page behind nginx."""

    port: int
    tls_port: int
    folder: Path
    run: Any

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/moe/"

    def ask(self, method: str, path: str, body: bytes = b"", tls: bool = False, **headers: str) -> Any:
        """Status, content and headers, over a new connection."""
        if tls:
            unchecked = ssl.create_default_context()
            unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
            connection: Any = http.client.HTTPSConnection("127.0.0.1", self.tls_port, timeout=60, context=unchecked)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """nginx in front of `python -m moe_hub.web`, as two programs of their own."""
    folder = tmp_path_factory.mktemp("proxied")
    port, tls_port, behind = free_port(), free_port(), free_port()
    run = write_run(folder / "runs", 40, state="running")
    _write_config(folder, port, tls_port, behind)
    page = [sys.executable, "-m", "moe_hub.web", "--port", str(behind), "--url-base-path", "/moe/",
            "--runs-dir", str(folder / "runs"), "--data-dir", str(folder / "data")]  # fmt: skip
    proxy = [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    with (
        running(page, folder / "page.log", f"http://127.0.0.1:{behind}/moe/healthz", MOE_HUB_TOKEN=TOKEN),
        running(proxy, folder / "nginx.log", f"http://127.0.0.1:{port}/moe/healthz"),
    ):
        yield Proxied(port, tls_port, folder, run)


def _write_config(folder: Path, port: int, tls_port: int, behind: int) -> None:
    """The documented file with other ports, once plain and once with the documented lines for TLS."""
    text = CONFIG.read_text()
    assert text.count("listen 80;") == 1
    assert text.count("127.0.0.1:8050") == 1
    text = text.replace("127.0.0.1:8050", f"127.0.0.1:{behind}")
    tls = TLS.read_text()
    for name in ("pem", "key"):
        documented = f"/etc/ssl/{'certs' if name == 'pem' else 'private'}/moe_hub.{name}"
        assert documented in tls
        tls = tls.replace(documented, str(folder / f"moe_hub.{name}"))
    assert "listen 443 ssl;" in tls
    tls = tls.replace("listen 443 ssl;", f"listen 127.0.0.1:{tls_port} ssl;")
    servers = [text.replace("listen 80;", f"listen 127.0.0.1:{port};")]
    if _certificate(folder):
        servers.append(text.replace("listen 80;", tls))
    (folder / "moe_hub.conf").write_text("\n".join(servers))
    user = "user root;" if os.getuid() == 0 else ""
    places = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in
                       ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))  # fmt: skip
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; worker_processes 2; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections 200; }}\nhttp {{ access_log off;\n{places}\ninclude {folder}/moe_hub.conf; }}\n"
    )


def _certificate(folder: Path) -> bool:
    if shutil.which("openssl") is None:
        return False
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-keyout", str(folder / "moe_hub.key"), "-out", str(folder / "moe_hub.pem")],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return True


def _sign_in(proxied: Proxied, **more: Any) -> tuple[str, Any]:
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    status, _, headers = proxied.ask("POST", "/moe/sign-in", f"token={TOKEN}".encode(), **form, **more)
    assert status == 303
    assert headers["Location"] == "/moe/"
    return str(headers["Set-Cookie"]).partition(";")[0], headers["Set-Cookie"]


def test_the_documents_show_these_files() -> None:
    text = (ROOT / "docs" / "serving.md").read_text()
    for path in (CONFIG, TLS):
        assert path.read_text().strip() in text, path.name


def test_the_token_is_asked_for_and_other_places_are_not_reached(proxied: Proxied) -> None:
    for path in ("/moe/", "/moe/api/live", "/moe/assets/tokens.css", "/moe/healthz"):
        assert proxied.ask("GET", path)[0] == 401, path
    assert proxied.ask("GET", "/api/live")[0] == 404
    for path in ("/moe/../api/live", "/moe/..%2fapi/live", "/moe/%2e%2e/%2e%2e/etc/passwd"):
        assert proxied.ask("GET", path)[0] in (400, 401, 404), path
    cookie, _ = _sign_in(proxied)
    assert proxied.ask("GET", "/moe/api/live", Cookie=cookie)[0] == 200
    own = {"Cookie": cookie, "Content_Type": "application/json"}
    origin = f"http://127.0.0.1:{proxied.port}"
    assert proxied.ask("POST", "/moe/api/runs", b"{}", Origin=origin, **own)[0] == 400
    assert proxied.ask("POST", "/moe/api/runs", b"{}", Origin="http://evil.example", **own)[0] == 403


def test_a_large_upload_comes_through_whole(proxied: Proxied) -> None:
    cookie, _ = _sign_in(proxied)
    row = json.dumps({"text": secrets.token_hex(500)}).encode() + b"\n"
    content = row * (24 * 1024 * 1024 // len(row))
    asked = {"Cookie": cookie, "Content_Type": "application/json"}
    status, answer, _ = proxied.ask(
        "POST", "/moe/api/uploads", json.dumps({"name": "big.jsonl", "size": len(content)}).encode(), **asked
    )
    assert status == 200
    begun = json.loads(answer)
    asked["Content_Type"] = "application/octet-stream"
    for offset in range(0, len(content), begun["chunk"]):
        piece = content[offset : offset + begun["chunk"]]
        address = f"/moe/api/uploads/{begun['upload']}?offset={offset}"
        status, answer, _ = proxied.ask("POST", address, piece, **asked)
        assert status == 200, answer
    assert (proxied.folder / "data" / "uploads" / "big.jsonl").read_bytes() == content
    assert proxied.ask("POST", address, b"x" * (21 << 20), **asked)[0] == 413  # by nginx, before the page hears of it


def test_with_tls_the_cookie_is_secure(proxied: Proxied) -> None:
    if not (proxied.folder / "moe_hub.pem").exists():
        pytest.skip("no openssl on this machine")
    cookie, whole = _sign_in(proxied, tls=True)
    assert "Secure" in whole
    status, _, headers = proxied.ask("GET", "/moe/api/live", tls=True, Cookie=cookie)
    assert status == 200
    assert "max-age" in headers["Strict-Transport-Security"]
    origin = f"https://127.0.0.1:{proxied.tls_port}"
    own = {"Cookie": cookie, "Content_Type": "application/json", "Origin": origin}
    assert proxied.ask("POST", "/moe/api/runs", b"{}", tls=True, **own)[0] == 400


@pytest.mark.browser
def test_the_page_lives_behind_it(proxied: Proxied, chrome: Any, request: pytest.FixtureRequest) -> None:
    context = chrome.new_context(viewport={"width": 1440, "height": 900})
    request.addfinalizer(context.close)
    page = context.new_page()
    page.goto(proxied.address)
    page.fill("#token", "a wrong token")
    page.click("button")
    until(lambda: "This is not the token" in page.inner_text("[role=alert]"))
    page.fill("#token", TOKEN)
    watched = Watched(page, f"http://127.0.0.1:{proxied.port}/")
    page.click("button")
    page.wait_for_selector("#run-status .run-title")
    until(lambda: drawn_points(page) >= 40)
    _more_rows(proxied)
    until(lambda: drawn_points(page) >= 60)  # the page polls through the proxy and draws what is new
    page.click("#sign-out")
    page.click("button:has-text('Sign out')")
    until(lambda: page.url.endswith("/moe/sign-in"))
    assert watched.wrong == []
    page.goto(proxied.address)
    page.wait_for_selector("#token")


def _more_rows(proxied: Proxied) -> None:
    import numpy as np

    with MetricWriter(proxied.run.path) as writer:
        for step in range(41, 61):
            writer.write(step, rows_of(step, np.random.default_rng(0)), tokens=step * TOKENS_PER_STEP)
