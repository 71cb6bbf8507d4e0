"""The guide behind the page's Help: every chapter and picture answers, nothing outside docs/ does, HTML is text."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import flask
import pytest

from moe_hub.config import field_paths
from moe_hub.figures.registry import FIGURES
from moe_hub.web import create_dashboard, guide
from moe_hub.web.panels import header

ROOT = Path(__file__).resolve().parent.parent.parent
ADDRESS = re.compile(r'(?:href|src)="([^"]+)"')


def test_help_opens_the_chapter_of_each_tab(page) -> None:  # type: ignore[no-untyped-def]
    for tab, chapter in header.CHAPTERS.items():
        answer = page.client.get(f"/help/{chapter}")
        assert answer.status_code == 200, tab
        assert answer.mimetype == "text/html"
    text = str(page.app.layout())
    assert "id='help-link'" in text
    assert all(f"/help/{chapter}" in text for chapter in header.CHAPTERS.values())


def test_every_link_and_picture_of_the_guide_is_served(page) -> None:  # type: ignore[no-untyped-def]
    waiting, seen, anchors = ["/help/guide/index.md"], set(), []
    while waiting:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        answer = page.client.get(address)
        assert answer.status_code == 200, address
        if answer.mimetype != "text/html" or not address.startswith("/help/"):
            continue
        for found in map(unescape, ADDRESS.findall(answer.text)):
            parts = urlsplit(urljoin(address, found))
            if parts.scheme:
                continue
            waiting.append(parts.path)
            if parts.fragment and parts.path.endswith(".md"):
                anchors.append((address, parts.path, parts.fragment))
    documents = {f"/help/{path.relative_to(ROOT / 'docs').as_posix()}" for path in (ROOT / "docs").rglob("*.md")}
    assert documents <= seen, "the first page of the guide leads to every document"
    assert any(address.endswith(".png") for address in seen)
    for address, path, anchor in anchors:
        assert f'id="{anchor}"' in page.client.get(path).text, (address, path, anchor)


def test_the_reference_has_the_anchors_that_the_page_links_to(page) -> None:  # type: ignore[no-untyped-def]
    text = page.client.get("/help/figures.md").text
    for spec in FIGURES.values():
        assert f'<h3 id="{spec.title.lower().replace(" ", "-")}">' in text
    assert all(f"<code>{key}</code>" in page.client.get("/help/config.md").text for key in field_paths())


@pytest.mark.parametrize(
    "path",
    [
        "../setup.cfg", "%2e%2e/setup.cfg", "..%2fsetup.cfg", "guide/../../setup.cfg", "guide/%2e%2e/%2e%2e/setup.cfg",
        "/etc/passwd", "%2fetc%2fpasswd", "..\\setup.cfg", "references.py", "conf.py", "guide", "guide/", "nothing.md",
        "guide/index.md%00.png", "screenshots",
    ],
)  # fmt: skip
def test_nothing_else_is_served(page, path: str) -> None:  # type: ignore[no-untyped-def]
    answer = page.client.get(f"/help/{path}")
    # Where the path begins with a slash, no route of the guide matches, and Dash answers its page.
    assert answer.status_code == 404 or 'data-prefix="/"' in answer.text, path
    assert "install_requires" not in answer.text
    assert "root:" not in answer.text


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = tmp_path / "docs"
    (docs / "guide").mkdir(parents=True)
    (docs / "guide" / "index.md").write_text("# The guide\n")
    (tmp_path / "secret.md").write_text("secret")
    (docs / "way.md").symlink_to(tmp_path / "secret.md")
    monkeypatch.setattr(guide, "docs_folder", lambda: docs)
    client = create_dashboard(runs_dir=tmp_path / "runs", data_dir=tmp_path / "data").server.test_client()
    assert client.get("/help/guide/index.md").status_code == 200
    assert client.get("/help/way.md").status_code == 404


def test_who_is_not_let_in_reads_no_guide(tmp_path: Path) -> None:
    site = flask.Flask("site")
    create_dashboard(
        site, url_base_path="/moe/", runs_dir=tmp_path / "runs", data_dir=tmp_path / "data",
        authorize=lambda request: request.headers.get("X-Key") == "yes",
    )  # fmt: skip
    client = site.test_client()
    assert client.get("/moe/help/guide/index.md").status_code == 401
    answer = client.get("/moe/help/guide/index.md", headers={"X-Key": "yes"})
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert 'src="/moe/assets/theme.js"' in answer.text
    assert "http://" not in re.sub(r"<main.*</main>", "", answer.text, flags=re.DOTALL)


def test_html_in_a_document_is_text_and_addresses_of_code_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide" / "index.md").write_text("# Guide\n\n- [A <b>chapter</b>](../a.md)\n")
    path = tmp_path / "a.md"
    path.write_text(
        "# A `title` <i>\n\n<script>alert(1)</script>\n\n<!-- bench x -->\n[bad](javascript:alert(1)) "
        '[out](../secret.md) [in](guide/index.md) ![p](x.png"onerror="alert(1))\n\n## Two\n\n## Two\n'
    )
    text = guide.chapter(path, tmp_path, "/")
    main = text[text.index("<main") :]
    assert "<script>" not in main
    assert "&lt;script&gt;" in main
    assert "bench x" not in main
    assert not re.search(r'href="(?!guide/index\.md)', main)
    assert 'onerror="' not in main
    assert "<span>out</span>" in main
    assert ('id="two"' in main, 'id="two-1"' in main) == (True, True)
    assert "<title>A title &lt;i&gt; - MoE Hub</title>" in text


def test_the_anchors_are_those_of_the_site() -> None:
    assert guide.slug("model.loss_weights") == "modelloss_weights"
    assert guide.slug("3D Rotation Visualization") == "3d-rotation-visualization"


def test_the_bare_address_leads_to_the_first_page(page) -> None:  # type: ignore[no-untyped-def]
    answer = page.client.get("/help/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/help/guide/index.md")
