"""Plotly.js itself draws every figure: no error, something visible, and a zoom that survives an update."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plotly
import pytest

from moe_hub.figures import registry, serve
from moe_hub.figures.registry import FIGURES, View
from moe_hub.figures.report import report_html
from moe_hub.runs.history import RunHistory

from .conftest import Make

pytestmark = pytest.mark.browser
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
DRAW = """async ([text, width]) => {
  const place = document.getElementById('figure');
  place.style.width = width + 'px';
  const figure = JSON.parse(text);
  await Plotly.react(place, figure.data, figure.layout);
  const axis = (place._fullLayout.xaxis || {}).range;
  return {shown: place.querySelectorAll('.trace, .hm, .gl-container canvas').length, range: axis};
}"""


@pytest.fixture(scope="module")
def page(playwright: Any) -> Iterator[Any]:
    browser_path = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    assert browser_path is not None, "install chromium: make browser"
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--use-angle=swiftshader",
             "--enable-unsafe-swiftshader", "--disable-background-networking"]  # fmt: skip
    browser = playwright.chromium.launch(executable_path=browser_path, args=flags)
    yield browser.new_page(viewport={"width": 1000, "height": 600}, offline=True)
    browser.close()


@pytest.fixture
def plot(page: Any) -> Iterator[Any]:
    """A page with Plotly.js; anything that goes wrong on it fails the test."""
    problems: list[str] = []
    note = lambda error: problems.append(str(error))  # noqa: E731
    page.on("pageerror", note)
    page.set_content('<div id="figure" style="height:420px"></div>')
    page.add_script_tag(path=str(PLOTLY))
    yield page
    page.remove_listener("pageerror", note)
    assert problems == []


def test_every_figure_is_drawn(plot: Any, history: RunHistory, make_history: Make) -> None:
    for key, spec in FIGURES.items():
        histories = [history] if spec.several == 1 else [history, make_history(60, 1)]
        for view in (View(threshold=0.5), View(theme="dark", width_px=390, log_y=True, smoothing=0.8)):
            found = plot.evaluate(DRAW, [serve.figure_json(key, histories, view).decode(), view.width_px])
            assert found["shown"] > 0, key


def test_a_zoom_survives_new_rows_and_ends_with_another_axis(plot: Any, make_history: Make) -> None:
    def drawn(rows: int, view: View) -> list[float]:
        text = serve.figure_json("training-loss", [make_history(rows)], view).decode()
        return list(plot.evaluate(DRAW, [text, 900])["range"])

    drawn(60, View())
    box = plot.locator(".nsewdrag").first.bounding_box()
    x, y = box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.5
    plot.mouse.move(x, y)
    plot.mouse.down()
    plot.mouse.move(x + 200, y, steps=5)
    plot.mouse.up()
    plot.locator(".zoombox").wait_for(state="detached")
    zoomed = plot.evaluate("() => document.getElementById('figure')._fullLayout.xaxis.range")
    assert zoomed[1] - zoomed[0] < 150
    assert drawn(80, View()) == zoomed
    assert drawn(80, View(smoothing=0.9)) == zoomed
    assert drawn(80, View(log_y=True)) == zoomed, "the x axis means the same"
    tokens = drawn(80, View(x="tokens"))
    assert tokens[1] > 1e6


def test_the_report_draws_offline(page: Any, history: RunHistory, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_bytes(report_html(history))
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    page.goto(file.as_uri())
    for spec in registry.available([history])[::7]:
        if spec.group == "Compare":
            continue
        place = page.locator(f'[data-source="data-{spec.key}"]')
        place.scroll_into_view_if_needed()
        place.locator(".main-svg").first.wait_for()
    assert problems == []
