"""`python -m moe_hub.web`, the sign-in page, the private folder, vendored files, and what the web layer imports."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from moe_hub.errors import ConfigError
from moe_hub.web.__main__ import build, build_parser, main
from moe_hub.web.app import assets_folder
from moe_hub.workbench.private_folder import private_folder

TOKEN = "a-long-enough-token"


def test_a_busy_port_is_a_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port), "--runs-dir", str(tmp_path), "--data-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert str(port) in error
    assert "--port" in error


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--host", "0.0.0.0"], "--token"),
        (["--host", "192.0.2.7", "--token", TOKEN], "192.0.2.7"),
        (["--token", "short"], "8 characters"),
        (["--port", "0"], "1 to 65535"),
        (["--url-base-path", "/a b/"], "url_base_path"),
    ],
)
def test_bad_flags_are_errors_for_people(flags: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    port = [] if "--port" in flags else ["--port", "8149"]
    assert main([*flags, *port]) == 2
    assert says in capsys.readouterr().err


@pytest.fixture
def open_site(tmp_path: Path) -> Any:
    flags = ["--token", TOKEN, "--runs-dir", str(tmp_path / "r"), "--data-dir", str(tmp_path / "d")]
    return build(build_parser().parse_args(["--host", "0.0.0.0", *flags])).server.test_client()


def test_a_stranger_sees_only_the_sign_in_page(open_site: Any) -> None:
    page = open_site.get("/", headers={"Accept": "text/html", "Host": "lab.example"})
    assert page.status_code == 401
    assert b"password" in page.data
    for path in ("/api/live", "/healthz", "/_dash-layout", "/assets/tokens.css"):
        assert open_site.get(path).status_code == 401
    assert open_site.post("/api/runs", json={}).status_code == 401


def test_the_token_opens_it_and_the_cookie_is_closed_to_scripts(open_site: Any) -> None:
    assert open_site.post("/sign-in", data={"token": "wrong-token"}).status_code == 403
    answer = open_site.post("/sign-in", data={"token": TOKEN})
    assert answer.status_code == 303
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert open_site.get("/api/live").status_code == 200
    assert open_site.post("/api/runs", json={}, headers={"Origin": "https://evil.example"}).status_code == 403


def test_a_program_signs_in_by_header(open_site: Any) -> None:
    assert open_site.get("/healthz", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert open_site.get("/healthz", headers={"Authorization": "Bearer no"}).status_code == 401


def test_guessing_is_slowed_down(open_site: Any) -> None:
    codes = [open_site.post("/sign-in", data={"token": f"guess-{n}"}).status_code for n in range(12)]
    assert codes[-1] == 429
    assert open_site.post("/sign-in", data={"token": TOKEN}).status_code == 429


def test_the_job_folder_is_private(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "data" / ".background")
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    assert private_folder(folder).stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(ConfigError, match="folder of this user"):
        private_folder(tmp_path / "link")
    if os.getuid() == 0:
        os.chown(folder, 12345, 12345)
        with pytest.raises(ConfigError, match="folder of this user"):
            private_folder(folder)


@pytest.mark.parametrize("vendor", [assets_folder() / "vendor", Path(__file__).parent / "vendor"])
def test_vendored_files_are_what_the_list_says(vendor: Path) -> None:
    entries = json.loads((vendor / "vendor.json").read_text())
    for entry in entries:
        assert hashlib.sha256((vendor / entry["file"]).read_bytes()).hexdigest() == entry["sha256"], entry["file"]
        assert (vendor / entry["license_file"]).is_file()
        assert entry["version"]
    listed = {entry["file"] for entry in entries}
    there = {
        str(path.relative_to(vendor))
        for path in vendor.rglob("*")
        if path.is_file() and path.suffix != ".txt" and path.name != "vendor.json"
    }
    assert listed == there


def test_the_drawing_library_is_the_one_of_the_python_package() -> None:
    from plotly.offline import get_plotlyjs_version

    entries = json.loads((assets_folder() / "vendor" / "vendor.json").read_text())
    versions = {entry["version"] for entry in entries if entry["package"].startswith("plotly.js")}
    assert versions == {get_plotlyjs_version()}


def test_no_script_or_style_names_another_host(page: Any) -> None:
    texts = [page.client.get("/").data.decode()]
    texts += [path.read_text() for path in assets_folder().glob("*.*") if path.suffix in (".js", ".css")]
    for text in texts:
        found = set(re.findall(r"https?://[\w.-]+", text)) - {"http://www.w3.org"}
        assert not found


def test_pages_files_are_compressed_once_and_kept_by_the_browser(page: Any) -> None:
    html = page.client.get("/").data.decode()
    addresses = re.findall(r'(?:src|href)="(/assets/[^"]+\.(?:js|css)\?v=\w+)"', html)
    assert len(addresses) > 5
    for address in addresses:
        answer = page.client.get(address, headers={"Accept-Encoding": "gzip"})
        assert answer.headers["Content-Encoding"] == "gzip"
        assert "immutable" in answer.headers["Cache-Control"]
        assert "Content-Encoding" not in page.client.get(address, headers={"Accept-Encoding": ""}).headers


def test_the_web_layer_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from moe_hub.web import create_dashboard;"
        f"app = create_dashboard(runs_dir={str(tmp_path)!r}, data_dir={str(tmp_path)!r});"
        "client = app.server.test_client(); assert client.get('/').status_code == 200;"
        "assert client.get('/_dash-layout').status_code == 200; assert client.get('/api/live').status_code == 200;"
        "bad = sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'transformers', 'datasets'});"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_health(page: Any) -> None:
    from moe_hub import __version__

    answer = page.client.get("/healthz")
    assert answer.get_json() == {"status": "ok", "version": __version__}
