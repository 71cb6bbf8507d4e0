"""The menu's screens through Textual's pilot: what they show, what they ask, and what stays as it is."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Button, Checkbox, DataTable, Input, Select, Static

from moe_hub import launch
from moe_hub.config import load_config
from moe_hub.runs import control
from moe_hub.runs.status import Status, process_identity, write_status
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.runs.writer import MetricWriter
from moe_hub.terminal.menu import talk
from moe_hub.terminal.menu.app import MenuApp
from moe_hub.terminal.menu.bench import Bench, open_bench
from moe_hub.terminal.menu.dialogs import Ask, Read
from moe_hub.terminal.menu.field_row import FieldRow
from moe_hub.terminal.menu.look import DARK, LIGHT
from moe_hub.terminal.menu.new_run import NewRunScreen
from moe_hub.workbench.assessment import is_hidden
from moe_hub.workbench.fields import form_fields

pytestmark = pytest.mark.slow


def run_apart(scene: Coroutine[Any, Any, None]) -> None:
    """Runs the scene on a thread of its own: the browser's driver keeps a loop on this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, scene).result()


Scene = Callable[[MenuApp, Pilot[Any]], Awaitable[None]]
Play = Callable[..., None]
NAMES = ("watch", "runs", "talk", "data", "dashboard", "new")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench on empty folders."""
    monkeypatch.setenv("MOE_HUB_DATA", str(tmp_path / "data"))
    (tmp_path / "jobs").mkdir()
    return open_bench(tmp_path / "runs", tmp_path / "data", tmp_path / "jobs")


@pytest.fixture
def play(bench: Bench) -> Play:
    """Runs a scene on a menu of 100 x 40 characters that opens with one of its screens."""

    def run(scene: Scene, first: str = "new") -> None:
        async def perform() -> None:
            app = MenuApp(bench, first=first)
            async with app.run_test(size=(100, 40), notifications=True) as pilot:
                await until(pilot, lambda: app.tab(first).is_mounted and app.focused in app.tab(first).query("*"))
                await scene(app, pilot)

        run_apart(perform())

    return run


async def until(pilot: Pilot[Any], holds: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Lets the program work until something is so."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        await pilot.pause(0.02)


def text_of(app: MenuApp, selector: str) -> str:
    """What a Static shows."""
    return str(app.screen.query_one(selector, Static).content)


def said(app: MenuApp) -> str:
    """All notifications."""
    return "\n".join(note.message for note in app._notifications)


def made(store: RunStore, name: str = "made", *, rows: int = 5, state: str = "finished", **status: Any) -> RunDirectory:
    """A run with a few rows."""
    run = store.create(load_config("geometric_lambda", overrides=[f"name={name}"]))
    with MetricWriter(run.path) as writer:
        for step in range(1, rows + 1):
            writer.write(step, {
                "train/loss": math.nan if step == 3 else 3.0 / step, "expert/load": np.full((2, 4), 0.25),
                "rotation/theta_rad": np.full((2, 4, 3), 0.1 * step), "ghost/saturation": np.array([0.5, 0.2]),
                "val/exact_match": 0.5, "lambda/exact_match/syntax": 0.75,
            }, tokens=step)  # fmt: skip
    identity = process_identity() if state in ("running", "paused") else {}
    given = {"step": rows, "max_steps": 10, "heartbeat": time.time(), "metrics": {"train/loss": 0.6}}
    write_status(run.path, Status(state=state, **{**given, **identity, **status}))
    return run


# --- New run


def test_the_form_has_every_field_with_its_bounds(play: Play) -> None:
    async def scene(app: MenuApp, pilot: Pilot[Any]) -> None:
        form = app.query_one(NewRunScreen)

        def shown() -> list[str]:
            return [row.field.path for row in app.query(FieldRow) if row.display]

        await until(pilot, lambda: "1,350,690 parameters" in text_of(app, "#count"))
        assert list(form.values()) == list(form_fields())
        row = app.query_one("#row-model-num_experts", FieldRow)
        assert "1 to 64" in str(row.query_one(".message", Static).content)
        assert "Experts per layer" in row.help
        assert "--preset geometric_lambda" in text_of(app, "#command")
        assert "model.dropout" not in shown()  # advanced
        app.query_one("#advanced", Checkbox).value = True
        await until(pilot, lambda: "model.dropout" in shown())
        assert form.assessment is not None
        hidden = form.assessment.hidden
        assert shown() == [path for path in form_fields() if not is_hidden(path, hidden)]  # in the order of the schema
        assert "model.topk.top_k" not in shown()  # this architecture reads no topk
        app.query_one("#field-model-architecture", Select).value = "topk"
        await until(pilot, lambda: "model.topk.top_k" in shown() and "model.geometric.rotation_dims" not in shown())
        assert sorted(shown(), key=list(form_fields()).index) == shown()

    play(scene)


def test_a_wrong_value_is_named_beside_its_field_and_does_not_start(play: Play, bench: Bench) -> None:
    async def scene(app: MenuApp, pilot: Pilot[Any]) -> None:
        row = app.query_one("#row-model-num_experts", FieldRow)
        field = app.query_one("#field-model-num_experts", Input)
        field.value = "99"
        await until(pilot, lambda: app.query_one("#start", Button).disabled)
        assert str(row.query_one(".message", Static).content) == "99: allowed is 1 to 64"
        assert row.query_one(".message").has_class("wrong")
        assert text_of(app, "#count").startswith("1 to correct. Experts: 99")
        await pilot.press("f9")
        await until(pilot, lambda: "model.num_experts: 99" in said(app))
        assert app.focused is field
        assert bench.store.ids() == ()
        field.value = "5"
        await until(pilot, lambda: not app.query_one("#start", Button).disabled)
        assert "--set model.num_experts=5" in text_of(app, "#command")
        await pilot.press("f7")
        await until(pilot, lambda: isinstance(app.screen, Read))
        assert "model.num_experts: 4 -> 5" in text_of(app, "#read-text")

    play(scene)


def test_find_shows_fields_by_name_advanced_ones_too(play: Play) -> None:
    async def scene(app: MenuApp, pilot: Pilot[Any]) -> None:
        app.query_one("#find", Input).value = "dropout"
        await until(pilot, lambda: [row.field.path for row in app.query(FieldRow) if row.display] == ["model.dropout"])

    play(scene)


def test_start_makes_the_run_and_watches_it(play: Play, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def launch_run(runs_dir: Path, config: Any) -> str:
        run = RunStore(runs_dir).create(config)
        write_status(
            run.path, Status(state="running", step=1, max_steps=9, heartbeat=time.time(), **process_identity())
        )
        return run.run_id

    monkeypatch.setattr(launch, "launch_run", launch_run)

    async def scene(app: MenuApp, pilot: Pilot[Any]) -> None:
        app.query_one("#preset", Select).value = "basic_comparison"
        await until(pilot, lambda: "--preset basic_comparison" in text_of(app, "#command"))
        await pilot.press("f9")
        await until(pilot, lambda: app.shown == "watch" and "running: step 1 of 9" in text_of(app, "#line"))

    play(scene)
    assert bench.store.find("latest").config() == load_config("basic_comparison")


def test_queue_freezes_the_run(play: Play, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.queueing, "start_queue", lambda runs_dir, command=None: False)

    async def scene(app: MenuApp, pilot: Pilot[Any]) -> None:
        app.query_one("#field-name", Input).value = "later"
        await pilot.press("f8")
        await until(pilot, lambda: "Queued: number 1 of 1." in said(app))

    play(scene)
    run = bench.store.find("latest")
    assert (run.state(), run.config().name) == ("queued", "later")


def test_a_preset_of_ones_own_is_saved_and_chosen(play: Play, bench: Bench) -> None:
    async def scene(app: MenuApp, pilot: Pilot[Any]) -> None:
        app.query_one("#field-train-max_steps", Input).value = "7"
        await until(pilot, lambda: "1 changed" in text_of(app, "#count"))
        app.query_one("#save-preset", Button).press()
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press(*"mine", "enter")
        await until(pilot, lambda: app.query_one("#preset", Select).value == "mine")
        assert "--config" in text_of(app, "#command")
        assert "0 changed" in text_of(app, "#count")

    play(scene)
    assert bench.presets.values("mine")["train.max_steps"] == 7


# --- Watch


def test_watch_shows_what_was_measured(play: Play, bench: Bench) -> None:
    run = made(bench.store, state="running", rows=5)
    (run.path / "log.txt").write_text("first\nlast \x1b[31mline\n")

    async def scene(app: MenuApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: "running: step 5 of 10" in text_of(app, "#line"))
        await pilot.pause(0.05)
        shown = {key: "\n".join("".join(text for text, _ in row) for row in app.query_one(f"#panel-{key}").rows())
                 for key in ("loss", "load", "rotation", "saturation", "phases", "alarms", "log")}  # fmt: skip
        assert "train loss" in shown["loss"]
        assert "×" in shown["loss"]  # step 3 is not a number
        assert "expert 3" in shown["load"]
        assert "0.25" in shown["load"]
        assert "expert 0" in shown["rotation"]
        assert "threshold 0.01" in shown["saturation"]
        assert "syntax" in shown["phases"]
        assert "train/loss is not finite in 1 of 5 rows" in shown["alarms"]
        assert shown["log"].endswith("last  [31mline")

    play(scene, "watch")


def test_keys_ask_the_run(play: Play, bench: Bench) -> None:
    run = made(bench.store, state="running")

    async def scene(app: MenuApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: "running" in text_of(app, "#line"))
        assert app.query_one("#resume", Button).disabled
        await pilot.press("p", "s")
        await until(pilot, lambda: "Pause requested" in said(app) and "Save requested" in said(app))

    play(scene, "watch")
    assert [request.action for request in control.waiting(run.path)] == ["pause", "save"]


def test_no_run_no_data_and_a_failure_are_said(play: Play, bench: Bench) -> None:
    async def scene(app: MenuApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: text_of(app, "#line").startswith("There is no run in"))
        run = made(bench.store, rows=0, state="failed", exit_reason="out of memory", step=0, metrics={})
        await until(pilot, lambda: run.run_id in text_of(app, "#line"))
        assert "Lower train.batch_size" in text_of(app, "#line")
        rows = app.query_one("#panel-loss").rows()
        assert rows[0][0][0] == "no step has been logged yet"

    play(scene, "watch")


# --- Runs


def test_runs_are_listed_filtered_compared_deleted_and_brought_back(play: Play, bench: Bench) -> None:
    first, second = made(bench.store, "first"), made(bench.store, "second", state="failed", rows=2)
    bench.store.rename(first.run_id, "a [long] label " * 10)

    async def scene(app: MenuApp, pilot: Pilot[Any]) -> None:
        table = app.query_one(DataTable)
        await until(pilot, lambda: table.row_count == 2)
        app.query_one("#filter", Input).value = "failed"
        await until(pilot, lambda: table.row_count == 1)
        app.query_one("#filter", Input).value = ""
        await until(pilot, lambda: table.row_count == 2)
        table.focus()
        await pilot.press("home", "space", "down", "c")
        await until(pilot, lambda: isinstance(app.screen, Read))
        assert "name" in text_of(app, "#read-text")
        await pilot.press("escape")
        await pilot.pause()
        deleted = app.tab("runs").current
        await pilot.press("d")
        await until(pilot, lambda: table.row_count == 1)
        assert deleted in bench.store.trash().ids()
        await pilot.press("u")
        await until(pilot, lambda: table.row_count == 2)
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press(*"b a", "enter")
        await until(pilot, lambda: any("#a #b" in cell for cell in table.get_row_at(table.cursor_row)))
        await pilot.press("enter")
        await until(pilot, lambda: app.shown == "watch")

    play(scene, "runs")
    assert set(bench.store.ids()) == {first.run_id, second.run_id}


def test_a_running_run_is_not_deleted(play: Play, bench: Bench) -> None:
    run = made(bench.store, state="running")

    async def scene(app: MenuApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: app.query_one(DataTable).row_count == 1)
        await pilot.press("d")
        await until(pilot, lambda: "is running; stop it before it is deleted" in said(app))

    play(scene, "runs")
    assert bench.store.ids() == (run.run_id,)


def test_two_hundred_runs_are_listed(play: Play, bench: Bench) -> None:
    for index in range(200):
        bench.store.create(load_config("basic_comparison", overrides=[f"name=run{index}"]))

    async def scene(app: MenuApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: app.query_one(DataTable).row_count == 200)

    play(scene, "runs")


# --- Talk, Data, Dashboard


def test_talk_streams_shows_experts_and_judges(play: Play, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(bench.store)
    (run.path / "checkpoints" / "step_00000005").mkdir()
    lines = '{"text": "λ", "id": 1, "shares": [[0.7, 0.3]]}\n{"text": " x . x", "id": 2, "shares": [[0.2, 0.8]]}\n'
    asked: list[Any] = []
    monkeypatch.setattr(
        bench.jobs, "start", lambda module, arguments, stdin, offline: asked.append((module, arguments, stdin)) or "j"
    )
    monkeypatch.setattr(
        bench.jobs, "read", lambda job, offset: {"text": lines, "offset": 9, "state": "done", "error": ""}
    )

    async def scene(app: MenuApp, pilot: Pilot[Any]) -> None:
        prompt = app.query_one("#prompt", Input)
        await until(pilot, lambda: prompt.value)  # a held-out task stands there from the start
        prompt.value = "( λ y . y ) ( λ x . x )"
        await pilot.press("f9")
        await until(pilot, lambda: "done" in text_of(app, "#talk-note"))
        assert text_of(app, "#text") == "λ x . x"
        assert text_of(app, "#verdict").startswith("Right\n")
        await pilot.pause(0.05)
        rows = ["".join(text for text, _ in row) for row in app.query_one("#panel-shares").rows()]
        assert [("70%" in row, "80%" in row) for row in rows] == [(True, False), (False, True)]

    play(scene, "talk")
    assert asked[0][0] == "moe_hub.generate"
    assert asked[0][2] == "( λ y . y ) ( λ x . x )"


@pytest.mark.parametrize(
    ("prompt", "answer", "line"),
    [
        ("( λ y . y ) z", "z", "Right"),
        ("( λ y . y ) z", "w", "Wrong"),
        ("( ( (", "z", "The evaluator cannot judge this"),
        ("( λ x . x x ) ( λ x . x x )", "z", "There is no normal form to find"),
    ],
)
def test_the_verdict_in_words(prompt: str, answer: str, line: str) -> None:
    assert talk.verdict(prompt, answer).startswith(line)


def test_data_is_inspected_by_a_process_and_previewed(play: Play, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"question": "what is {n}?", "answer": "it is {n}"}}\n' for n in range(40)))

    async def scene(app: MenuApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: "Token cache" in text_of(app, "#data-note"))
        app.query_one("#path", Input).value = str(file)
        await pilot.press("f7")
        await until(pilot, lambda: "question: what is 0?" in text_of(app, "#result-text"))
        await pilot.press("f9")
        await until(pilot, lambda: "usable" in text_of(app, "#data-note"))
        app.query_one("#path", Input).value = str(tmp_path / "none.jsonl")
        await pilot.press("f7")
        await until(pilot, lambda: "none.jsonl" in said(app))

    play(scene, "data")


def test_the_dashboard_says_where_it_is(play: Play, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [{"state": "running", "text": "MoE Hub is on http://127.0.0.1:8311/  (Ctrl-C closes the page)\n"}]
    asked: list[Any] = []
    monkeypatch.setattr(bench.servers, "start", lambda module, words, offline: asked.append((module, words)) or "job")
    monkeypatch.setattr(bench.servers, "read", lambda job, offset: {"error": "", **answers[-1]})
    monkeypatch.setattr(bench.servers, "stop", lambda job: answers.append({"state": "stopped", "text": ""}))

    async def scene(app: MenuApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: app.shown == "dashboard")
        app.query_one("#port", Input).value = "none"
        await pilot.press("f9")
        await until(pilot, lambda: "a whole number from 1 to 65535" in said(app))
        app.query_one("#port", Input).value = "8311"
        await pilot.press("f9")
        await until(pilot, lambda: "http://127.0.0.1:8311/" in text_of(app, "#address"))
        assert "ssh -N -L 8311:127.0.0.1:8311" in text_of(app, "#about")
        await pilot.press("f8")
        await until(pilot, lambda: text_of(app, "#address") == "The page is not running.")

    play(scene, "dashboard")
    assert asked[0][0] == "moe_hub.web"
    assert asked[0][1][:2] == ["--port", "8311"]


# --- the program


def test_light_and_dark_and_no_colour(play: Play, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(app: MenuApp, pilot: Pilot[Any]) -> None:
        assert app.theme == DARK
        await pilot.press("ctrl+t")
        assert app.theme == LIGHT

    play(scene)
    monkeypatch.setenv("NO_COLOR", "1")
    assert MenuApp(bench).no_color


def labels(app: MenuApp) -> list[str]:
    """What the choices show; one that is still being made shows nothing."""
    return [str(each.content) for select in app.query(Select) for each in select.query("#label").results(Static)]


def shown(app: MenuApp) -> list[Widget]:
    """What a person can press, once it is laid out."""
    return [each for each in app.screen.query("Button, Input, Select") if each.region.width]


def test_every_screen_fits_80_columns(bench: Bench) -> None:
    made(bench.store, "a-name-as-long-as-a-name-may-be-of-forty")

    async def perform() -> None:
        app = MenuApp(bench)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: app.focused in app.tab("new").query("*"))
            await until(pilot, lambda: labels(app) and "Select" not in labels(app))  # each shows its value
            for key, name in zip(("f2", "f3", "f4", "f5", "f6", "f1"), NAMES, strict=True):
                await pilot.press(key)
                await until(pilot, lambda name=name: app.shown == name and app.focused in app.tab(name).query("*"))
                await until(pilot, lambda: shown(app))
                assert all(each.region.right <= 80 for each in shown(app)), key

    run_apart(perform())
