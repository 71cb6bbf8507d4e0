"""The report: one file, no address to fetch from, text shown as text."""

from __future__ import annotations

import json
import re

from moe_hub.figures.registry import available
from moe_hub.figures.report import report_html
from moe_hub.runs.history import RunHistory


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
