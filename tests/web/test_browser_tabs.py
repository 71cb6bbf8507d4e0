"""Every tab with a real checkpoint: analysis and report, inference, models, data."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Site, Watched, drawn_points, fill_small, newest_run, until

from moe_hub.runs.store import RunStore

pytestmark = [pytest.mark.browser, pytest.mark.training, pytest.mark.timeout(400)]

Visit = Callable[..., Watched]


def test_analysis_draws_the_grid_and_the_report_works_offline(
    trained_site: Site, visit: Visit, chrome: Any, tmp_path: Path
) -> None:
    page = visit("?tab=analysis").page
    until(lambda: page.locator(".grid-card").count() >= 8)
    cards = page.locator(".grid-card")
    for index in range(cards.count()):
        cards.nth(index).scroll_into_view_if_needed()
        until(lambda index=index: cards.nth(index).locator(".main-svg").count() > 0)
    with page.expect_download() as waiting:
        page.click("text=Report (HTML)")
    report = tmp_path / "report.html"
    waiting.value.save_as(report)
    context = chrome.new_context(offline=True)
    offline = context.new_page()
    asked: list[str] = []
    offline.on("request", lambda request: asked.append(request.url))
    offline.goto(report.as_uri())
    until(lambda: offline.locator(".main-svg").count() > 0)
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    context.close()
    with page.expect_download() as waiting:
        page.click("text=Metrics (CSV)")
    lines = Path(waiting.value.path()).read_text().splitlines()
    assert "train/loss" in lines[0]
    assert len(lines) > 30


def test_inference_streams_judges_shows_experts_and_stops(trained_site: Site, visit: Visit) -> None:
    page = visit("?tab=inference").page
    until(lambda: page.input_value("#prompt-input"))
    page.fill("#sample-max", "12")
    page.click("#generate-button")
    until(lambda: page.locator("#generated-text .token").count() > 0, 90)
    until(lambda: page.is_enabled("#generate-button"), 60)
    until(lambda: page.is_visible("#lambda-verdict"))
    assert "Evaluator" in page.inner_text("#lambda-verdict")
    assert page.locator("#token-experts .share-row").count() >= 1
    page.focus("#generated-text")
    page.keyboard.press("ArrowRight")
    until(lambda: "Token 2" in page.inner_text("#token-experts"))
    page.fill("#sample-max", "99")
    page.fill("#sample-temperature", "1")
    page.click("#generate-button")
    until(lambda: page.is_enabled("#generate-stop"))
    page.click("#generate-stop")
    until(lambda: page.is_enabled("#generate-button"), 30)
    page.fill("#sample-top-p", "7")
    page.click("#generate-button")
    until(lambda: "Top-p" in page.inner_text("#generate-note"))


def test_models_compare_download_fork_and_delete(trained_site: Site, visit: Visit) -> None:
    watched = visit("?tab=models")
    page = watched.page
    boxes = page.locator("#panel-models tbody input[type=checkbox]")
    until(lambda: boxes.count() == 2)
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.click("#model-actions >> text=Compare")
    until(lambda: "Distance of the weights" in page.inner_text("#model-comparison"))
    assert "Rotation angles" in page.inner_text("#model-comparison")
    until(lambda: page.is_enabled("#evaluate-all"), 120)
    page.fill("#compare-prompt", "<syn> ( λ a . a ) λ b . b =")
    page.click("#sample-all")
    until(lambda: page.is_enabled("#sample-all"), 120)
    assert all(text.strip() not in ("", "…") for text in page.locator(".sample pre").all_inner_texts())
    boxes.nth(1).uncheck()
    page.click("#model-actions >> text=Download")
    with page.expect_download() as waiting:
        page.click("text=Model for transformers")
    archive = zipfile.ZipFile(io.BytesIO(Path(waiting.value.path()).read_bytes()))
    names = {name.rpartition("/")[2] for name in archive.namelist()}
    assert archive.testzip() is None
    assert {"model.safetensors", "config.json", "tokenizer_config.json"} <= names
    assert "optimizer.safetensors" not in names
    store = RunStore(trained_site.runs_dir)
    before = set(store.ids())
    page.click("#model-actions >> text=Fork")
    page.fill("#fork-steps", "70")
    page.click("text=Start the fork")
    forked = until(lambda: set(store.ids()) - before).pop()
    until(lambda: store.open(forked).state() == "finished", 120)
    assert json.loads((store.open(forked).path / "origin.json").read_text())["step"] == 60
    page.click("#tab-data")
    page.click("#tab-models")
    until(lambda: boxes.count() >= 3)
    count = boxes.count()
    for index in range(count):
        boxes.nth(index).uncheck()
    boxes.nth(count - 1).check()
    page.click("#model-actions >> text=Delete")
    assert boxes.count() == count
    page.click("text=Delete for good")
    until(lambda: boxes.count() == count - 1)


def test_two_checkpoints_are_compared_on_the_same_data_as_in_the_shell(trained_site: Site, visit: Visit) -> None:
    page = visit("?tab=models").page
    boxes = page.locator("#panel-models tbody input[type=checkbox]")
    until(lambda: boxes.count() == 2)
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.click("#model-actions >> text=Compare")
    scores = page.locator("#compare-scores")
    until(lambda: "Whole answer right" in scores.inner_text(), 120)
    said = page.inner_text("#evaluate-note")
    assert "tokens to predict" in said
    assert "tasks with an answer" in said
    page.click(".in-a-shell summary")
    words = shlex.split(page.inner_text(".in-a-shell pre"))
    environment = {**os.environ, "MOE_HUB_DATA": str(trained_site.data_dir)}
    done = subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True, timeout=120, env=environment)
    lines = json.loads(done.stdout)["checkpoints"]
    assert all(line["cached"] for line in lines)  # the page's own numbers, kept beside the run
    shown = page.locator("#compare-scores tbody tr").first.locator("td").all_inner_texts()
    assert [text.split()[0] for text in shown] == [f"{line['loss'][0]:.4f}" for line in lines]
    assert "to" in shown[0]
    page.select_option("#compare-data", label="Generated lambda tasks")
    until(lambda: "Every held-out row" in page.inner_text("#evaluate-note"))
    page.click("#evaluate-stop")
    until(lambda: page.inner_text("#evaluate-note") == "Stopped.")
    assert page.is_enabled("#evaluate-all")
    assert scores.inner_text() == ""


def test_data_upload_preview_inspect_and_train(site: Site, visit: Visit, tmp_path: Path) -> None:
    rows = [{"question": f"what is {n}", "answer": f"it is <i>{n}</i>"} for n in range(300)]
    source = tmp_path / "my data (1).jsonl"
    source.write_text("\n".join(json.dumps(row) for row in [*rows, *rows[:20]]) + "\n")
    page = visit("?tab=data").page
    until(lambda: page.locator("#data-source-select option").count() >= 2)
    page.set_input_files("#upload-input", str(source))
    until(lambda: "it is <i>0</i>" in page.inner_text("#dataset-preview"))
    assert page.locator("#dataset-preview i").count() == 0
    assert (site.data_dir / "uploads" / "my_data_1.jsonl").read_bytes() == source.read_bytes()
    page.click("#inspect-button")
    until(lambda: "Report" in page.inner_text("#data-report"), 90)
    assert "duplicates" in page.inner_text("#data-report")
    page.click("#use-data-button")
    fill_small(page, **{"train-max_steps": "6", "model-max_seq_len": "64"})
    until(lambda: "uploads/my_data_1.jsonl" in page.inner_text("#command-preview"))
    until(lambda: page.is_enabled("#start-button"))
    page.click("#start-button")
    run = newest_run(site)
    until(lambda: run.state() == "finished", 120)
    until(lambda: drawn_points(page) > 0)
    page.click("#tab-models")
    page.click("#tab-data")
    until(lambda: page.locator(".data-cache tbody tr").count() >= 1)
    page.click(".data-cache >> text=Purge all")
    until(lambda: "Empty" in page.inner_text(".data-cache"))


def test_a_bad_file_is_explained_with_its_line(site: Site, visit: Visit, tmp_path: Path) -> None:
    source = tmp_path / "bad.jsonl"
    source.write_text('{"text": "one"}\n{"text": \n{"text": "three"}\n' + '{"text": "more"}\n' * 30)
    page = visit("?tab=data").page
    until(lambda: page.locator("#data-source-select option").count() >= 2)
    page.set_input_files("#upload-input", str(source))
    until(lambda: "line 2" in page.inner_text("#dataset-preview"))
    page.click("#inspect-button")
    until(lambda: "Problems" in page.inner_text("#data-report"), 90)


def test_a_queue_of_three_with_a_failing_one_goes_on(site: Site, visit: Visit) -> None:
    page = visit().page
    doomed = site.data_dir / "doomed.txt"
    doomed.parent.mkdir(parents=True, exist_ok=True)
    doomed.write_text("some words to read " * 200)
    store = RunStore(site.runs_dir)

    def queue(name: str, steps: str) -> None:
        before = len(store.ids())
        fill_small(page, **{"train-max_steps": steps, "model-max_seq_len": "64"})
        page.fill("#field-name", name)
        until(lambda: f"name={name}" in page.inner_text("#command-preview"))
        until(lambda: page.is_enabled("#queue-button"))
        page.click("#queue-button")
        until(lambda: len(store.ids()) == before + 1)
        until(lambda: page.is_enabled("#queue-button"))

    queue("first", "400")
    page.uncheck("#field-train-lambda_cognitive-enabled")
    page.select_option("#field-data-source", "file")
    page.fill("#field-data-path", str(doomed))
    queue("second", "5")
    doomed.unlink()
    page.select_option("#field-data-source", "lambda")
    queue("third", "5")
    until(lambda: page.locator("#run-queue li").count() >= 1)
    states = {"first": "finished", "second": "failed", "third": "finished"}

    def found() -> dict[str, str]:
        return {str(store.open(run_id).config().name): store.open(run_id).state() for run_id in store.ids()}

    until(lambda: found() == states, 200)
    page.locator("#run-table tr", has_text="second").locator(".run-name").click()
    until(lambda: "doomed.txt" in page.inner_text("#failure-card h3"))
    assert "End of the log" in page.inner_text("#failure-card")
    assert "doomed.txt" in page.inner_text("#failure-card pre")
    page.locator("#run-table tr", has_text="third").locator(".run-name").click()
    until(lambda: page.is_hidden("#failure-card"))
