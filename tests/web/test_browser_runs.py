"""The list of runs, the address, and the live figure's manners, on runs written at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from browser import Site, Watched, drawn_points, status, until
from conftest import write_run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(200)]

Visit = Callable[..., Watched]


def row(page: Any, run: Any) -> Any:
    return page.locator(f"#run-table tr[data-run='{run.run_id}']")


def test_search_select_rename_tag_delete_and_undo(site: Site, visit: Visit) -> None:
    runs = [write_run(site.runs_dir, 20, name=name) for name in ("alpha", "beta", "gamma")]
    page = visit().page
    until(lambda: page.locator("#run-table tbody tr").count() == 3)
    page.fill("#run-search", "BETA")
    until(lambda: page.locator("#run-table tbody tr").count() == 1)
    row(page, runs[1]).locator(".run-name").click()
    until(lambda: "beta" in status(page))
    page.click("#run-actions >> text=Rename")
    page.fill("#run-edit", "<b>bold</b> & new")
    page.keyboard.press("Enter")
    until(lambda: "<b>bold</b> & new" in status(page))
    assert page.locator("#run-table b").count() == 0
    page.click("#run-actions >> text=Tag")
    page.fill("#run-edit", "good, seed 1")
    page.keyboard.press("Enter")
    page.fill("#run-search", "")
    until(lambda: row(page, runs[1]).locator(".tag").all_inner_texts() == ["good", "seed 1"])
    page.click("#run-actions >> text=Delete")
    until(lambda: page.locator("#run-table tbody tr").count() == 2)
    assert not runs[1].path.exists()
    page.click("#run-undo >> text=Undo")
    until(lambda: page.locator("#run-table tbody tr").count() == 3)
    assert runs[1].path.exists()


def test_the_address_holds_runs_figure_axis_and_tab(site: Site, visit: Visit) -> None:
    runs = [write_run(site.runs_dir, 30, name=name) for name in ("alpha", "beta")]
    page = visit().page
    until(lambda: drawn_points(page) > 0)
    row(page, runs[0]).locator(".run-name").click()
    until(lambda: f"run={runs[0].run_id}" in page.url)
    page.select_option("#figure-select", "learning-rate-schedule")
    page.select_option("#axis-select", "tokens")
    page.click("#tab-models")
    until(lambda: all(part in page.url for part in ("figure=learning-rate-schedule", "x=tokens", "tab=models")))
    other = visit(page.url.removeprefix(site.address)).page
    until(lambda: other.input_value("#figure-select") == "learning-rate-schedule")
    assert other.input_value("#axis-select") == "tokens"
    assert other.get_attribute("#tab-models", "aria-selected") == "true"
    until(lambda: "alpha" in status(other))
    page.go_back()
    until(lambda: "tab=models" not in page.url)
    page.go_back()
    until(lambda: page.input_value("#axis-select") == "step")


def test_several_runs_are_drawn_over_each_other(site: Site, visit: Visit) -> None:
    runs = [write_run(site.runs_dir, 30, name=name) for name in ("alpha", "beta")]
    page = visit().page
    traces = "() => (document.getElementById('live-figure')._fullData || []).length"
    until(lambda: drawn_points(page) > 0)
    row(page, runs[0]).locator(".run-name").click()
    one = until(lambda: "alpha" in status(page) and drawn_points(page) and page.evaluate(traces))
    row(page, runs[1]).locator("input").check()
    until(lambda: page.evaluate(traces) > one)


def test_zoom_and_hidden_traces_survive_updates_and_nothing_new_is_not_drawn(
    site: Site, visit: Visit, tmp_path: Any
) -> None:
    run = write_run(site.runs_dir, 60)
    page = visit().page
    until(lambda: drawn_points(page) >= 60)
    host = "document.getElementById('live-figure')"
    page.evaluate(f"() => window.Plotly.relayout({host}, {{'xaxis.range[0]': 10, 'xaxis.range[1]': 30}})")
    page.locator("#live-figure .legendtoggle").nth(1).click(force=True)
    until(lambda: page.evaluate(f"() => {host}._fullData.some((trace) => trace.visible === 'legendonly')"))
    hidden = page.evaluate(f"() => {host}._fullData.findIndex((trace) => trace.visible === 'legendonly')")
    page.wait_for_timeout(1500)
    drawn = page.evaluate(f"() => Number({host}.dataset.drawn)")
    page.wait_for_timeout(2500)
    assert page.evaluate(f"() => Number({host}.dataset.drawn)") == drawn  # nothing new: nothing drawn
    append_row(run, 61)
    until(lambda: page.evaluate(f"() => Number({host}.dataset.drawn)") > drawn)
    assert page.evaluate(f"() => {host}._fullLayout.xaxis.range.map(Math.round)") == [10, 30]
    assert page.evaluate(f"() => {host}._fullData[{hidden}].visible") == "legendonly"


def append_row(run: Any, step: int) -> None:
    from fake_trainer import rows_of
    from numpy.random import default_rng

    from moe_hub.runs.writer import MetricWriter

    with MetricWriter(run.path) as writer:
        writer.write(step, rows_of(step, default_rng(1)), tokens=step * 2048)


def test_a_hidden_page_asks_for_nothing(site: Site, visit: Visit) -> None:
    page = visit().page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/live" in request.url else None)
    page.wait_for_timeout(2500)
    assert len(asked) >= 2
    page.evaluate("() => Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.wait_for_timeout(1200)
    asked.clear()
    page.wait_for_timeout(2500)
    assert asked == []
    page.evaluate(
        "() => { Object.defineProperty(document, 'hidden', {value: false, configurable: true});"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    page.wait_for_timeout(1500)
    assert asked


def test_every_figure_is_drawn(site: Site, visit: Visit) -> None:
    write_run(site.runs_dir, 60)
    page = visit().page
    until(lambda: drawn_points(page) > 0)
    keys = page.eval_on_selector_all("#figure-select option", "nodes => nodes.map((node) => node.value)")
    assert len(keys) >= 7
    for key in keys:
        page.select_option("#figure-select", key)
        until(
            lambda key=key: (
                page.evaluate(
                    "() => { const host = document.getElementById('live-figure');"
                    " return host._fullLayout && host._fullLayout.meta && host._fullLayout.meta.key; }"
                )
                == key
            )
        )


def test_a_nan_is_shown_and_a_broken_run_does_not_break_the_list(site: Site, visit: Visit) -> None:
    run = write_run(site.runs_dir, 20, state="failed", exit_reason="loss is non-finite at step 20")
    text = (run.path / "status.json").read_text().replace('"train/loss": ', '"train/loss": "NaN", "was": ')
    (run.path / "status.json").write_text(text)
    broken = write_run(site.runs_dir, 5, name="broken")
    (broken.path / "config.yaml").write_text("{ not yaml")
    page = visit().page
    until(lambda: "non-finite" in page.inner_text("#failure-card"))
    assert "learning_rate" in page.inner_text("#failure-card")
    assert "NaN" in status(page)


def test_a_server_that_is_gone_is_said_and_found_again(site: Site, visit: Visit) -> None:
    write_run(site.runs_dir, 20)
    watched = visit()
    page = watched.page
    until(lambda: drawn_points(page) > 0)
    site.kill()
    until(lambda: "does not answer" in page.inner_text("#connection"))
    site.start()
    until(lambda: page.inner_text("#connection") == "")
    watched.wrong[:] = [
        line for line in watched.wrong if "ERR_CONNECTION" not in line and "Failed to fetch" not in line
    ]


def test_a_zoom_fetches_the_rows_of_its_range(site: Site, visit: Visit) -> None:
    run = write_run(site.runs_dir, 1)
    with (run.path / "metrics.jsonl").open("a") as file:
        for step in range(2, 60_001):
            file.write(f'{{"step":{step},"time":{1.79e9 + step},"tokens":{step},"train/loss":{2 + (step % 7) / 10}}}\n')
    page = visit().page
    host = "document.getElementById('live-figure')"
    inside = f"() => Array.from({host}._fullData[0].x).filter((x) => x >= 30000 && x <= 30500).length"
    until(lambda: drawn_points(page) > 500)
    before = page.evaluate(inside)
    page.evaluate(f"() => window.Plotly.relayout({host}, {{'xaxis.range[0]': 30000, 'xaxis.range[1]': 30500}})")
    until(lambda: page.evaluate(inside) >= 500)
    assert before < 200
    assert page.evaluate(f"() => {host}._fullLayout.xaxis.range") == [30000, 30500]
    page.evaluate(f"() => window.Plotly.relayout({host}, {{'xaxis.autorange': true}})")
    until(lambda: page.evaluate(f"() => {host}._fullLayout.xaxis.range[1]") >= 59_000)


def test_the_camera_stays_while_the_run_grows(site: Site, visit: Visit) -> None:
    run = write_run(site.runs_dir, 40)
    page = visit("?figure=rotation-3d").page
    host = "document.getElementById('live-figure')"
    until(lambda: page.evaluate(f"() => Boolean({host}._fullLayout && {host}._fullLayout.scene)"))
    page.wait_for_timeout(800)
    box = page.locator("#live-figure").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 120, box["y"] + box["height"] / 2 + 40, steps=4)
    page.mouse.up()
    page.wait_for_timeout(800)
    eye = f"() => {host}._fullLayout.scene._scene.getCamera().eye"
    turned = page.evaluate(eye)
    drawn = page.evaluate(f"() => Number({host}.dataset.drawn)")
    append_row(run, 41)
    until(lambda: page.evaluate(f"() => Number({host}.dataset.drawn)") > drawn)
    page.wait_for_timeout(500)
    after = page.evaluate(eye)
    assert all(abs(turned[axis] - after[axis]) < 1e-3 for axis in "xyz")
