"""Several runs on the page: archive, sort and filter, the run of a figure, the table, saved images, very many runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from browser import Site, Watched, drawn_points, status, until
from conftest import write_run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(200)]

Visit = Callable[..., Watched]
HOST = "document.getElementById('live-figure')"
# Milliseconds from a letter typed into the search to the list drawn and laid out; the smallest of five.
TYPING = """() => {
  const search = document.getElementById('run-search'), spans = [];
  for (const text of ['c', 'co', 'copy', 'copy-00', 'copy-003']) {
    const begin = performance.now();
    search.value = text;
    search.dispatchEvent(new Event('input', {bubbles: true}));
    document.getElementById('run-table').getBoundingClientRect();
    spans.push(performance.now() - begin);
  }
  return Math.min(...spans);
}"""


def names(page: Any) -> list[str]:
    return list(page.locator("#run-table tbody .run-name").all_inner_texts())


def test_archive_filter_sort_and_undo(site: Site, visit: Visit) -> None:
    for name in ("beta", "alpha", "gamma"):
        write_run(site.runs_dir, 20, name=name)
    page = visit().page
    until(lambda: len(names(page)) == 3)
    page.select_option("#run-sort", "name")
    until(lambda: names(page) == ["alpha", "beta", "gamma"])
    page.locator("#run-table .run-name", has_text="beta").click()
    until(lambda: "beta" in status(page))
    page.click("#run-actions >> text=Archive")
    until(lambda: names(page) == ["alpha", "gamma"])
    assert "beta" in status(page)  # out of the list, still on the screen
    page.select_option("#run-filter", "archived")
    until(lambda: names(page) == ["beta"])
    page.click("#run-undo >> text=Undo")
    until(lambda: names(page) == [])
    page.select_option("#run-filter", "current")
    until(lambda: names(page) == ["alpha", "beta", "gamma"])


def test_runs_side_by_side(site: Site, visit: Visit) -> None:
    runs = [write_run(site.runs_dir, 20 + 10 * index, name=name) for index, name in enumerate(("alpha", "beta"))]
    page = visit("?figure=expert-load").page
    until(lambda: len(names(page)) == 2)
    page.click("#run-actions >> text=Compare 2")
    until(lambda: page.locator("#run-select option").count() == 2 and page.locator("#run-select").is_visible())
    meta = f"() => {HOST}._fullLayout.meta.run"
    for run in (runs[0], runs[1]):
        page.select_option("#run-select", run.run_id)
        until(lambda run=run: page.evaluate(meta) == run.run_id)
    page.click("#tab-analysis")
    table = page.locator(".beside-table")
    until(lambda: table.locator("tbody tr").count() == 2)
    steps = lambda: table.locator("tbody td:nth-child(3)").all_inner_texts()  # noqa: E731
    page.click(".beside-table thead >> text=steps")
    until(lambda: steps() == ["20", "30"])
    page.click(".beside-table thead >> text=steps")
    until(lambda: steps() == ["30", "20"])
    columns = lambda: table.locator("thead th").all_inner_texts()  # noqa: E731
    first = columns()
    assert len(first) <= 8
    assert "val/loss" in first
    page.click("#beside-all")
    until(lambda: len(columns()) > len(first))
    assert page.inner_text("#beside-all") == "Main columns"
    assert steps() == ["30", "20"]  # the order stays


def test_saved_images_hold_title_and_legend(site: Site, visit: Visit) -> None:
    for name in ("alpha", "beta"):
        write_run(site.runs_dir, 20, name=name)
    page = visit("?figure=overlay-of-runs").page
    until(lambda: len(names(page)) == 2)
    page.click("#run-actions >> text=Compare 2")
    until(lambda: drawn_points(page) > 0 and page.evaluate(f"() => {HOST}._fullData.length") >= 2)

    def saved(kind: str) -> bytes:
        page.click("#figure-downloads summary")
        with page.expect_download() as waiting:
            page.click(f"#figure-downloads >> text={kind} image")
        path = waiting.value.path()
        assert path is not None
        return bytes(path.read_bytes())

    image = re.sub(r"<[^>]+>", " ", saved("SVG").decode())
    assert all(name in image for name in ("alpha", "beta", "Overlay of Runs"))
    assert saved("PNG").startswith(b"\x89PNG")
    assert page.locator(".modebar-btn[data-title^='Share']").count() == 0  # nothing is sent to anybody's cloud


def test_a_thousand_runs_are_searched_as_one_types(site: Site, visit: Visit) -> None:
    run = write_run(site.runs_dir, 1)
    for index in range(999):
        shutil.copytree(run.path, site.runs_dir / f"20261124-1{index:05d}-copy-{index:04x}")
    page = visit().page
    until(lambda: page.inner_text("#run-count") == "1000")
    assert page.locator("#run-table tbody tr").count() < 400  # the others come as one scrolls
    assert page.evaluate(TYPING) < 500
    until(lambda: page.inner_text("#run-count").endswith(" of 1000"))
    page.fill("#run-search", "")
    for _ in range(8):
        page.locator("#run-table").evaluate("(node) => { node.scrollTop = node.scrollHeight; }")
        page.wait_for_timeout(100)
    until(lambda: page.locator("#run-table tbody tr").count() > 400)


def test_the_interval_rests_while_nothing_runs(site: Site, visit: Visit) -> None:
    """A tick of dcc.Interval costs as much as twenty questions; without a live run a plain timer asks."""
    run = write_run(site.runs_dir, 20)
    page = visit().page
    until(lambda: drawn_points(page) >= 20)
    page.evaluate(
        "() => { window.ticks = 0; const tick = window.dash_clientside.moeHub.tick;"
        " window.dash_clientside.moeHub.tick = (...all) => { window.ticks += 1; return tick(...all); }; }"
    )
    asked = "() => performance.getEntriesByType('resource').filter((each) => each.name.includes('api/live')).length"
    before = page.evaluate(asked)
    until(lambda: page.evaluate(asked) >= before + 4)
    assert page.evaluate("() => window.ticks") <= 1
    status_file = run.path / "status.json"
    live = status_file.read_text().replace('"finished"', '"queued"')
    status_file.write_text(live)
    until(lambda: "queued" in status(page))
