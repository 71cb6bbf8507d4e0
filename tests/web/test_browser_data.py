"""The Data tab in a real browser: large uploads, broken ones, progress with cancel, mixtures, mapping, the cache."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from browser import Site, Watched, fill_small, newest_run, until

from moe_hub.data.token_store import TokenStore
from moe_hub.runs.store import RunStore

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

Visit = Callable[..., Watched]
MB = 1_000_000
BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"
SHARED = Path(os.environ.get("MOE_HUB_SHARED_DATA", BESIDE))


def rows_of_text(path: Path, count: int) -> Path:
    """A file of 8 kB a row: rows that differ, so that a piece in another place would be noticed."""
    filler = random.Random(0).randbytes(4000).hex()
    with path.open("w") as file:
        for number in range(count):
            file.write(json.dumps({"text": f"{number} {filler[number % 500 :]}"}) + "\n")
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 64 MB."""
    return rows_of_text(tmp_path_factory.mktemp("large") / "large.jsonl", 8000)


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 24 MB, six chunks."""
    return rows_of_text(tmp_path_factory.mktemp("medium") / "medium.jsonl", 3000)


def open_tab(visit: Visit) -> Watched:
    watched = visit("?tab=data")
    until(lambda: watched.page.locator("#data-source-select option").count() >= 2)
    return watched


class Line:
    """The connection of a page, which can be slow or broken."""

    def __init__(self, page: Any) -> None:
        self.session = page.context.new_cdp_session(page)
        self.session.send("Network.enable")

    def set(self, bytes_per_s: float, *, offline: bool = False) -> None:
        conditions = {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_s}
        self.session.send("Network.emulateNetworkConditions", conditions)


def begin_slowly(page: Any, line: Line, path: Path) -> None:
    """Chooses a file and returns once some of it, and not all, is on the server."""
    line.set(8 * MB)
    page.set_input_files("#upload-input", str(path))
    until(lambda: int(page.get_attribute(".upload-progress [role=progressbar]", "aria-valuenow")) >= 10)


def arrived(site: Site, page: Any, path: Path, name: str = "") -> None:
    """Waits for the file under its name, with the same bytes and nothing beside it."""
    until(lambda: f"{name or path.name} is here" in page.inner_text("#upload-message"), 120)
    uploads = site.data_dir / "uploads"
    assert (uploads / (name or path.name)).read_bytes() == path.read_bytes()
    assert [item.name for item in uploads.iterdir() if item.name.startswith(".")] == []


def forget_lost_connections(watched: Watched) -> None:
    """The browser's own lines about a connection that the test broke."""
    watched.wrong[:] = [line for line in watched.wrong if "net::ERR_" not in line]


@contextmanager
def sampled_memory(pid: int) -> Iterator[list[int]]:
    """Resident bytes of a process, about 20 times a second."""
    samples: list[int] = [psutil.Process(pid).memory_info().rss]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.05):
            samples.append(psutil.Process(pid).memory_info().rss)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def test_a_large_upload_leaves_the_servers_memory_flat(site: Site, visit: Visit, large: Path, tmp_path: Path) -> None:
    page = open_tab(visit).page
    small = tmp_path / "small.txt"
    small.write_text("first of all, so that what the server loads once is loaded\n" * 200_000)
    page.set_input_files("#upload-input", str(small))
    arrived(site, page, small)
    assert site.process is not None
    with sampled_memory(site.process.pid) as samples:
        page.set_input_files("#upload-input", str(large))
        arrived(site, page, large)
    assert len(samples) > 5
    assert max(samples) - samples[0] < 20 * MB, f"{samples[0] / MB:.0f} MB before, {max(samples) / MB:.0f} MB at most"


def test_cancel_keeps_nothing_and_a_broken_connection_goes_on(site: Site, visit: Visit, medium: Path) -> None:
    watched = open_tab(visit)
    page = watched.page
    line = Line(page)
    begin_slowly(page, line, medium)
    page.click("#upload-cancel")
    until(lambda: "nothing of it was kept" in page.inner_text("#upload-message"))
    assert list((site.data_dir / "uploads").iterdir()) == []
    begin_slowly(page, line, medium)
    line.set(-1, offline=True)
    until(lambda: "trying again" in page.inner_text("#upload-text"))
    line.set(-1)
    arrived(site, page, medium)
    forget_lost_connections(watched)


def test_a_killed_server_and_a_closed_browser_resume(site: Site, visit: Visit, chrome: Any, medium: Path) -> None:
    watched = open_tab(visit)
    page = watched.page
    line = Line(page)
    begin_slowly(page, line, medium)
    site.kill()
    until(lambda: "trying again" in page.inner_text("#upload-text"))
    assert not (site.data_dir / "uploads" / medium.name).exists(), "never under its name before it is whole"
    site.start()
    line.set(-1)
    arrived(site, page, medium)
    forget_lost_connections(watched)
    context = chrome.new_context()
    other = context.new_page()
    other.goto(f"{site.address}?tab=data")
    until(lambda: other.locator("#data-source-select option").count() >= 2)
    begin_slowly(other, Line(other), medium)
    context.close()
    page.reload()
    until(lambda: "medium.jsonl" in page.inner_text("#unfinished-uploads"))
    came = next((site.data_dir / "uploads").glob(".upload-*.part")).stat().st_size
    assert 0 < came < medium.stat().st_size
    sent: list[int] = []
    page.on("request", lambda asked: sent.append(int(asked.url.rpartition("=")[2])) if "?offset=" in asked.url and
            "/uploads/" in asked.url else None)  # fmt: skip
    page.set_input_files("#upload-input", str(medium))
    arrived(site, page, medium, "medium-2.jsonl")
    assert sent[0] > 0, "it goes on where it was broken off"
    assert page.locator("#unfinished-uploads li").count() == 0


def test_inspecting_and_preparing_show_progress_and_can_be_cancelled(site: Site, visit: Visit, large: Path) -> None:
    uploads = site.data_dir / "uploads"
    uploads.mkdir(parents=True)
    shutil.copyfile(large, uploads / "large.jsonl")
    small = uploads / "small.jsonl"
    small.write_text("".join(json.dumps({"question": f"q{n}", "answer": f"a{n}"}) + "\n" for n in range(300)))
    page = open_tab(visit).page
    page.select_option("#data-source-select", str(uploads / "large.jsonl"))
    for button in ("#inspect-button", "#prepare-button"):
        page.wait_for_selector(f"{button}:enabled")
        page.click(button)
        until(lambda: "rows, " in page.inner_text("#data-message") and " MB, " in page.inner_text("#data-message"))
        page.click("#data-stop")
        until(lambda: "Cancelled" in page.inner_text("#data-message"))
    cache = site.data_dir / "cache"
    assert [path.name for path in cache.glob("*") if path.is_dir() and path.name != "files"] == []
    page.select_option("#data-source-select", str(small))
    until(lambda: "would be a miss: not prepared before" in page.inner_text("#cache-outlook"))
    page.click("#prepare-button")
    until(lambda: "a miss: not prepared before" in page.inner_text("#data-message"))
    assert page.locator(".data-cache tbody tr").count() == 1
    until(lambda: "would be a hit" in page.inner_text("#cache-outlook"))
    page.click("#prepare-button")
    until(lambda: "Cache hit" in page.inner_text("#data-message"))
    page.click(".data-cache >> text=Purge all")
    until(lambda: "Empty" in page.inner_text(".data-cache"))
    until(lambda: "would be a miss" in page.inner_text("#cache-outlook"))


@pytest.mark.training
def test_an_edited_mapping_trains_and_its_template_stands_around_a_prompt(site: Site, visit: Visit) -> None:
    uploads = site.data_dir / "uploads"
    uploads.mkdir(parents=True)
    path = uploads / "odd.csv"
    path.write_text("left,right\n" + "".join(f"what is {n},it is {n}\n" for n in range(200)))
    page = open_tab(visit).page
    page.select_option("#data-source-select", str(path))
    until(lambda: "no known format" in page.inner_text("#dataset-preview"))
    page.evaluate("() => document.querySelectorAll('#panel-data details').forEach((each) => { each.open = true; })")
    page.select_option("#data-format", "question_answer")
    for role, column in (("prompt", "left"), ("answer", "right")):
        page.select_option(f"#data-{role}_column", column)
    page.fill("#data-prompt_template", "Q: {left}\nA: ")
    page.locator("#data-prompt_template").blur()
    until(lambda: "prompt from 'left'" in page.inner_text("#dataset-preview"))
    page.click("#use-data-button")
    fill_small(page, **{"train-max_steps": "4", "model-max_seq_len": "64"})
    until(lambda: "Q: {left}" in page.inner_text("#command-preview"))
    until(lambda: page.is_enabled("#start-button"))
    page.click("#start-button")
    run = newest_run(site)
    until(lambda: run.state() == "finished", 120)
    data = run.config().data
    assert (data.prompt_column, data.answer_column, data.prompt_template) == ("left", "right", "Q: {left}\nA: ")
    assert "tokens: cache miss" in (run.path / "log.txt").read_text()
    page.click("#tab-inference")
    until(lambda: page.is_visible("#prompt-template"))
    assert page.inner_text("#prompt-around") == "Q: {prompt}⏎A:␣"
    page.fill("#prompt-input", "what is 5")
    page.fill("#sample-max", "5")
    with page.expect_request(lambda asked: asked.url.endswith("api/generate")) as asked:
        page.click("#generate-button")
    assert asked.value.post_data_json["raw"] is False
    until(lambda: page.locator("#generated-text .token").count() > 0, 90)
    until(lambda: page.is_enabled("#generate-button"))
    page.uncheck("#prompt-template")
    with page.expect_request(lambda asked: asked.url.endswith("api/generate")) as asked:
        page.click("#generate-button")
    assert asked.value.post_data_json["raw"] is True
    until(lambda: page.is_enabled("#generate-button"), 90)


def test_a_late_preview_does_not_stand_for_another_file(site: Site, visit: Visit) -> None:
    uploads = site.data_dir / "uploads"
    uploads.mkdir(parents=True, exist_ok=True)
    for name in ("first", "second"):
        (uploads / f"{name}.txt").write_text(f"text of the {name} file\n" * 5)
    page = open_tab(visit).page
    held: list[Any] = []
    page.route("**/api/data/preview", lambda route: route.continue_() if held else held.append(route))
    until(lambda: page.locator("#data-source-select option").count() >= 4)
    page.select_option("#data-source-select", str(uploads / "first.txt"))
    until(lambda: (page.wait_for_timeout(50), held)[1])  # Playwright hands requests on while it is waited for
    page.select_option("#data-source-select", str(uploads / "second.txt"))
    until(lambda: "the second file" in page.inner_text("#dataset-preview"))
    with page.expect_response("**/api/data/preview"):
        held[0].continue_()
    page.wait_for_timeout(300)
    assert "the second file" in page.inner_text("#dataset-preview")


@pytest.mark.training
@pytest.mark.skipif(not (SHARED / "lambda_reductions.json").is_file(), reason="the public files are not here")
def test_the_public_files_train_from_the_page_alone_and_mixed(site: Site, visit: Visit) -> None:
    page = open_tab(visit).page
    page.set_input_files("#upload-input", [str(SHARED / "lambda_reductions.json"), str(SHARED / "tinyshakespeare.txt")])
    arrived(site, page, SHARED / "tinyshakespeare.txt")
    uploads = site.data_dir / "uploads"
    page.select_option("#data-source-select", str(uploads / "lambda_reductions.json"))
    until(lambda: page.is_enabled("#inspect-button"))
    page.click("#inspect-button")
    until(lambda: "a random split would leak" in page.inner_text("#data-report"), 90)
    assert "68 different questions in 1000 rows" in page.inner_text("#data-report")

    def train(source: str, steps: int) -> Any:
        store = RunStore(site.runs_dir)
        before = set(store.ids())
        page.select_option("#data-source-select", source)
        page.click("#use-data-button")
        fill_small(page, **{"train-max_steps": str(steps), "model-max_seq_len": "64"})
        until(lambda: page.is_enabled("#start-button"))
        until(lambda: f"max_steps={steps}" in page.inner_text("#command-preview"))
        page.click("#start-button")
        run = store.open(until(lambda: set(store.ids()) - before).pop())
        until(lambda: run.state() == "finished", 120)
        until(lambda: page.is_enabled("#start-button"))
        return run

    rows = train(str(uploads / "lambda_reductions.json"), 4)
    assert rows.config().data.path.endswith("lambda_reductions.json")
    text = train(str(uploads / "tinyshakespeare.txt"), 5)
    assert text.config().data.path.endswith("tinyshakespeare.txt")
    page.select_option("#data-source-select", "mixture:")
    until(lambda: page.locator(".mixture-row").count() == 2)
    page.locator(".mixture-row select").nth(0).select_option(f"file:{uploads / 'lambda_reductions.json'}")
    page.locator(".mixture-row select").nth(1).select_option(f"file:{uploads / 'tinyshakespeare.txt'}")
    page.locator(".mixture-row input[type=number]").nth(1).fill("1.5")
    page.locator(".mixture-row input[type=number]").nth(1).blur()
    until(lambda: "75.0%" in page.inner_text("#dataset-preview"))
    mixed = train("mixture:", 6)
    assert mixed.config().data.mixture == (
        f"0.5 file:{uploads / 'lambda_reductions.json'}; 1.5 file:{uploads / 'tinyshakespeare.txt'}"
    )
    entries = [path for path in (site.data_dir / "cache").glob("*") if (path / "entry.json").is_file()]
    sources = [set(TokenStore.open(path).source.tolist()) for path in entries]
    assert sorted(map(len, sources)) == [1, 1, 2]
