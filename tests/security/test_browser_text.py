"""HTML in data, logs, prompts, generated text, labels, tags, names and messages is shown as text, in a real browser."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import waitress
from attacks import HTML
from browser import Watched, run_in_thread, until
from safetensors.numpy import save_file
from web_fixtures import write_run

from moe_hub.runs.status import Status, write_status
from moe_hub.web import create_dashboard
from moe_hub.workbench.jobs import Jobs

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
ALL = " ".join(HTML)
SEEN = "onerror='window.owned=1'"  # stands in the page where an attack is shown as text
# In place of the model: writes what a model could write, and quotes its prompt.
MODEL = """
import json, sys
prompt = sys.stdin.read()
for text in (prompt, ATTACK):
    print(json.dumps({"text": text, "id": 1, "shares": [[0.5, 0.5]]}), flush=True)
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page whose runs, files and checkpoints are full of HTML."""
    folder = tmp_path_factory.mktemp("planted")
    runs_dir, data_dir = folder / "runs", folder / "data"
    app = create_dashboard(runs_dir=runs_dir, data_dir=data_dir)
    client = app.server.test_client()
    for number, state in enumerate(("finished", "failed")):
        run = write_run(runs_dir, 40, state=state, exit_reason=ALL)
        _plant(run.path, state)
        client.post("/api/runs", json={"action": "rename", "run": run.run_id, "label": HTML[number] + ALL[:100]})
        client.post("/api/runs", json={"action": "tag", "run": run.run_id, "tags": HTML})
    (data_dir / "uploads").mkdir(parents=True)
    (data_dir / "uploads" / "rows.jsonl").write_text(
        "".join(json.dumps({"question": each, "answer": ALL, each[:40]: ALL}) + "\n" for each in HTML)
    )
    (data_dir / "uploads" / "<img src=x onerror=window.owned=1 class=planted>.txt").write_text(ALL)
    server: Any = waitress.create_server(app.server, host="127.0.0.1", port=0, threads=8)
    run_in_thread(server)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Jobs, "start", _fake_model)
        yield f"http://127.0.0.1:{server.effective_port}/"
    server.close()


def _plant(run: Path, state: str) -> None:
    (run / "log.txt").write_text(f"{ALL}\n" * 3)
    write_status(run, Status(state=state, step=40, max_steps=600, heartbeat=time.time(), device=ALL, reason=ALL,
                             exit_reason=ALL, metrics={"train/loss": 1.0, HTML[0]: 2.0}))  # fmt: skip
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 41, "time": 1.0, "tokens": 1, "train/loss": 1.0, f"expert/{ALL}": 1.0}) + "\n")
    for step in (20, 40):
        folder = run / "checkpoints" / f"step_{step:08d}"
        folder.mkdir(parents=True)
        import numpy as np

        save_file({f"layers.0.{HTML[0]}": np.full((2, 2), step, np.float32)}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"architectures": [ALL]}))
        metrics = {"val/loss": 1.0, f"val/{ALL}": 1.0}
        (folder / "trainer_state.json").write_text(json.dumps({"step": step, "metrics": metrics}))


def _fake_model(self: Jobs, module: str, arguments: Any, stdin: str = "", *, offline: bool = True) -> str:
    self.folder.mkdir(parents=True, exist_ok=True)
    return self._open([sys.executable, "-c", MODEL.replace("ATTACK", repr(ALL))], stdin, offline)


@pytest.fixture
def page(planted: str, chrome: Any) -> Iterator[Any]:
    """The open page; at the end nothing that was planted may have become an element or run."""
    context = chrome.new_context(viewport={"width": 1440, "height": 1000})
    page = context.new_page()
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    watched = Watched(page, planted)
    page.goto(planted)
    page.wait_for_selector("#run-status .run-title")
    yield page
    harmless(page)
    assert dialogs == []
    assert [line for line in watched.wrong if "Content Security Policy" in line or "exception" in line] == []
    context.close()


def harmless(page: Any) -> None:
    """No attack is an element, a link or has run."""
    assert page.evaluate("() => window.owned") is None
    assert page.locator(".planted").count() == 0
    assert (
        page.evaluate(
            "() => [...document.querySelectorAll('a')].map((a) => a.getAttribute('href') || "
            "a.getAttribute('xlink:href') "
            "|| '').filter((href) => href.toLowerCase().includes('script:'))"
        )
        == []
    )
    assert page.evaluate("() => document.querySelectorAll('iframe, object, embed').length") == 0


def test_the_runs_their_status_and_log(page: Any) -> None:
    until(lambda: SEEN in page.inner_text("#run-table"))
    seen = set()
    for row in page.locator("#run-table tbody tr").all():  # both were made in one second: either may stand first
        run_id = row.get_attribute("data-run")
        row.click()
        until(lambda run_id=run_id: page.get_attribute("#run-status .run-title", "title") == run_id)
        state = page.inner_text("#run-status .badge-state")
        if state == "failed":
            until(lambda: "End of the log" in page.inner_text("body"))
        page.evaluate("() => document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert "onerror" in page.inner_text("#run-status")
        harmless(page)
        seen.add(state)
    assert seen == {"finished", "failed"}
    assert SEEN in page.inner_text("body")


def test_figures_their_legend_and_hover(page: Any) -> None:
    until(lambda: page.locator("#live-figure .legendtext, #live-figure .trace, #live-figure .lines").count() > 0)
    box = page.locator("#live-figure").bounding_box()
    for share in (0.3, 0.5, 0.7, 0.9):
        page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] * 0.5)
        page.wait_for_timeout(150)
        harmless(page)
    page.click("#tab-analysis")
    until(lambda: page.locator("#panel-analysis .js-plotly-plot, #panel-analysis svg").count() > 0)
    harmless(page)


def test_checkpoints_and_their_comparison(page: Any) -> None:
    page.click("#tab-models")
    until(lambda: page.locator("#panel-models input[type=checkbox]").count() >= 4)
    assert SEEN in page.inner_text("#panel-models")
    for number in range(2):
        page.locator("#panel-models tbody input[type=checkbox]").nth(number).check()
    buttons = page.locator("#model-actions button", has_text="Compare")
    if buttons.count():
        buttons.first.click()
        until(lambda: "val/" in page.inner_text("#model-comparison"))
    harmless(page)


def test_data_rows_columns_and_file_names(page: Any) -> None:
    page.click("#tab-data")
    choice = page.locator("#panel-data select:has(option[value$='rows.jsonl'])").first
    until(lambda: choice.count() == 1)
    choice.select_option(value=choice.locator("option[value$='rows.jsonl']").first.get_attribute("value"))
    until(lambda: SEEN in page.inner_text("#dataset-preview"))
    harmless(page)


def test_prompt_and_generated_text(page: Any) -> None:
    page.click("#tab-inference")
    until(lambda: page.locator("#checkpoint-select option").count() >= 2)
    page.fill("#prompt-input", ALL)
    page.click("#generate-button")
    until(lambda: page.inner_text("#generated-text").count(SEEN) >= 2)
    page.locator("#generated-text .token").first.hover()
    harmless(page)


def test_the_report_that_is_kept(page: Any, planted: str, tmp_path: Path, chrome: Any) -> None:
    rows = page.request.get(f"{planted}api/live").json()["runs"]["rows"]
    for number, row in enumerate(rows):
        answer = page.request.get(f"{planted}api/runs/{row['id']}/report.html")
        assert "attachment" in answer.headers["content-disposition"]
        (tmp_path / f"{number}.html").write_bytes(answer.body())
        context = chrome.new_context()
        kept = context.new_page()
        kept.goto((tmp_path / f"{number}.html").as_uri())
        until(lambda kept=kept: "onerror" in kept.inner_text("h1"))
        harmless(kept)
        context.close()


def test_what_a_form_field_says_back(page: Any) -> None:
    page.evaluate("() => document.querySelectorAll('#configuration details').forEach((each) => { each.open = true; })")
    for attack in HTML[:4]:
        page.fill("#field-name", attack)
        until(lambda attack=attack: attack[:20] in page.inner_text("#command-preview")
              or page.inner_text("[data-path='name'] .field-error"))  # fmt: skip
        harmless(page)
