"""Accessibility by axe-core on every tab in both themes, the keyboard alone, the small screen, and the first load."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Site, Watched, drawn_points, load_factor, until
from conftest import write_run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(200)]

Visit = Callable[..., Watched]
AXE = Path(__file__).parent / "vendor" / "axe.min.js"


def serious(page: Any) -> list[str]:
    """What axe-core finds serious or critical."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {node['target']} {node['html'][:120]} {node.get('failureSummary', '')[:200]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_no_serious_issue_on_any_tab(site: Site, visit: Visit, theme: str, width: int) -> None:
    write_run(site.runs_dir, 60)
    write_run(site.runs_dir, 30, state="failed", exit_reason="out of memory")
    page = visit(color_scheme=theme, viewport={"width": width, "height": 900}, bypass_csp=True).page
    until(lambda: drawn_points(page) > 0 or page.is_visible("#failure-card"))
    page.evaluate("() => document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    for tab in ("analysis", "inference", "models", "data"):
        page.click(f"#tab-{tab}")
        page.wait_for_timeout(400)
        assert serious(page) == [], (tab, theme, width)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width


@pytest.mark.training
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_issue_in_dialogs_menus_and_the_comparison(trained_site: Site, visit: Visit, theme: str) -> None:
    write_run(trained_site.runs_dir, 30, state="failed", exit_reason="out of memory")
    page = visit("?tab=models", color_scheme=theme, bypass_csp=True).page
    until(lambda: page.is_visible("#failure-card"))
    boxes = page.locator("#panel-models tbody input[type=checkbox]")
    until(lambda: boxes.count() == 2)
    boxes.nth(0).check()
    for action in ("Download", "Fork", "Delete"):
        page.click(f"#model-actions >> text={action}")
        until(lambda: page.is_visible("#model-confirm"))
        assert serious(page) == [], action
        page.click("#model-confirm >> text=Cancel")
    boxes.nth(1).check()
    page.click("#model-actions >> text=Compare")
    until(lambda: page.locator("#compare-scores table").count() == 1, 120)
    page.click(".in-a-shell summary")
    page.click("#preset-menu summary")
    page.click("#run-actions >> text=Rename")
    page.click("#figure-help-toggle")
    page.fill("#field-model-num_experts", "999")
    until(lambda: page.is_disabled("#start-button"))
    assert serious(page) == []


def test_no_serious_issue_with_no_run(visit: Visit) -> None:
    page = visit(bypass_csp=True).page
    until(lambda: page.is_visible("#figure-empty"))
    assert serious(page) == []


def test_with_the_keyboard_alone(site: Site, visit: Visit) -> None:
    write_run(site.runs_dir, 30)
    page = visit().page
    until(lambda: drawn_points(page) > 0)
    page.keyboard.press("Tab")
    assert "Skip" in page.evaluate("document.activeElement.textContent")
    reached = set()
    for _ in range(140):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
        visible = page.evaluate(
            "() => { const style = getComputedStyle(document.activeElement);"
            " return document.activeElement === document.body || style.outlineStyle !== 'none'"
            " || style.boxShadow !== 'none' || document.activeElement.type === 'file'; }"
        )
        assert visible, page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
    assert {
        "preset-select",
        "architecture-select",
        "field-model-num_experts",
        "start-button",
        "figure-select",
    } <= reached
    assert "tab-analysis" in reached
    page.focus("#tab-analysis")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-inference"
    assert page.is_visible("#panel-inference")


def test_the_theme_is_the_systems_or_the_persons(visit: Visit) -> None:
    page = visit(color_scheme="dark").page
    theme = "() => document.documentElement.getAttribute('data-bs-theme')"
    assert page.evaluate(theme) == "dark"
    page.click("#theme-light")
    assert page.evaluate(theme) == "light"
    page.reload()
    assert page.evaluate(theme) == "light"
    page.click("#theme-system")
    assert page.evaluate(theme) == "dark"


def test_names_of_the_buttons(visit: Visit) -> None:
    page = visit().page
    for name in ("Start", "Pause", "Resume", "Stop", "Save", "Queue"):
        assert page.get_by_role("button", name=name, exact=True).count() >= 1, name
    page.click("#tab-inference")
    assert page.get_by_role("button", name="Generate", exact=True).count() <= 1


MARKS = """
    window.marks = {};
    const look = setInterval(() => {
        const button = document.getElementById("start-button"), host = document.getElementById("live-figure");
        if (button && !button.disabled) window.marks.start = window.marks.start || performance.now();
        if (!(host && host._fullData && host.calcdata)) return;
        window.marks.drawn = performance.now();
        clearInterval(look);
    }, 10);
"""


def test_the_first_load_is_small_and_quick(site: Site, chrome: Any) -> None:
    write_run(site.runs_dir, 60)
    context = chrome.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.add_init_script(MARKS)
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Performance.enable")
    sizes: list[float] = []
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto(site.address)
    marks = until(lambda: (found := page.evaluate("window.marks")).get("drawn") and found)
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    found = {
        "first_load_bytes": sum(sizes),
        "start_works_ms": round(marks["start"]),
        "figure_drawn_ms": round(marks["drawn"]),
        **{
            f"{name}_ms": round(1000 * metrics[f"{name}Duration"])
            for name in ("Script", "Layout", "RecalcStyle", "Task")
        },
        "load_factor": round(load_factor(), 1),
    }
    print(json.dumps(found))
    assert sum(sizes) < 2_000_000
    assert marks["drawn"] < 2500 * load_factor()
    context.close()
