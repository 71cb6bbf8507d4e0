"""The report: one file, no address to fetch from, text shown as text."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from moe_hub.figures.registry import available
from moe_hub.figures.report import report_html
from moe_hub.runs.history import RunHistory

from .conftest import CONFIG


def without_plotly(content: bytes) -> str:
    """The page without the library, whose source holds addresses that it does not fetch."""
    text = content.decode()
    start = text.index("<script>")
    return text[:start] + text[text.index("</script></head>") :]


def test_every_figure_is_in_it_and_nothing_is_fetched(history: RunHistory) -> None:
    text = without_plotly(report_html(history))
    sources = re.findall(r'<script type="application/json" id="data-([a-z0-9-]+)">(.*?)</script>', text, re.S)
    expected = [spec.key for spec in available([history]) if spec.group != "Compare"]
    assert [key for key, _ in sources] == expected
    assert all(json.loads(content)["data"] for _, content in sources)
    assert not re.search(r"""(?:src|href)\s*=|https?://|url\(|@import""", text)


def test_text_from_outside_stays_text() -> None:
    rows = [{"step": 1, "train/loss": 1.0, "</script><script>alert(1)//": 2.0}]
    evil = RunHistory("run", {"name": "</script><b>", "data": {"path": "<i>"}}, None, rows, label="</title><script>x")
    text = without_plotly(report_html(evil, "dark"))
    assert "<script>alert" not in text
    assert "<script>x" not in text
    assert "</script><b>" not in text
    assert "<i>" not in text


def test_a_run_with_nothing_has_a_report() -> None:
    text = without_plotly(report_html(RunHistory("run", {})))
    assert "No alarm" in text
    assert "<section>" not in text


@pytest.mark.browser
def test_it_draws_offline_in_a_browser(history: RunHistory, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    file = tmp_path / "report.html"
    file.write_bytes(report_html(history))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(offline=True)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.append(request.url) if request.url[:5] == "http:" else None)
        page.goto(file.as_uri())
        page.locator(".figure .main-svg").first.wait_for()
        page.locator('[data-source="data-expert-load"]').scroll_into_view_if_needed()
        page.locator('[data-source="data-expert-load"] .main-svg').first.wait_for()
        browser.close()
    assert problems == []
    assert CONFIG["name"] in file.read_text()


def chromium() -> str:
    """The system's browser."""
    import shutil

    found = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    assert found is not None, "install chromium: make browser"
    return found
