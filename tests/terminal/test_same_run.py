"""Shell, Python, menu and page make the same config.yaml, byte for byte, of the same choices."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Checkbox, Input, Select

from moe_hub import launch
from moe_hub.config import Config, flatten, load_config
from moe_hub.runs.status import Status, process_identity, write_status
from moe_hub.runs.store import RunStore
from moe_hub.terminal.menu.app import MenuApp
from moe_hub.terminal.menu.bench import open_bench
from moe_hub.terminal.menu.new_run import NewRunScreen
from moe_hub.train import __main__ as train_command
from moe_hub.train import session, train
from moe_hub.web import create_dashboard, ids
from moe_hub.workbench.fields import to_raw


def run_apart(scene: Coroutine[Any, Any, None]) -> None:
    """Runs the scene on a thread of its own: the browser's driver keeps a loop on this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, scene).result()


# A preset, what a person types into the form, and the same in the words of --set.
CHOICES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "a preset as it is": ("geometric_lambda", {}, []),
    "numbers, a switch, a list, nothing": (
        "basic_comparison",
        {
            "name": "same-run", "train.max_steps": "20", "train.learning_rate": "1e-3", "model.num_experts": " 6 ",
            "model.coupling.learnable_edge_weights": False, "data.levels": "1, 2", "data.num_train_samples": "",
        },
        [
            "name=same-run", "train.max_steps=20", "train.learning_rate=0.001", "model.num_experts=6",
            "model.coupling.learnable_edge_weights=false", "data.levels=[1, 2]", "data.num_train_samples=null",
        ],
    ),
    "a choice that hides fields": (
        "geometric_lambda",
        {"model.architecture": "topk", "train.mode": "standard", "train.lambda_cognitive.enabled": False},
        ["model.architecture=topk", "train.mode=standard", "train.lambda_cognitive.enabled=false"],
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are made as ever, and are not trained."""

    def launch_run(runs_dir: Path, config: Config) -> str:
        run = RunStore(runs_dir).create(config)
        begun = Status(state="running", step=1, max_steps=2, heartbeat=time.time(), **process_identity())
        write_status(run.path, begun)
        return run.run_id

    monkeypatch.setattr(launch, "launch_run", launch_run)
    monkeypatch.setattr(session, "run_training", lambda run, **_: None)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHOICES)
def test_same_choices_same_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset, typed, overrides = CHOICES[name]
    monkeypatch.setenv("MOE_HUB_DATA", str(tmp_path / "data"))
    command = menu(tmp_path / "menu", preset, typed)
    page(tmp_path / "page", preset, typed)
    python(tmp_path / "python", preset, overrides)
    shell(tmp_path / "shell", ["--preset", preset, *(word for each in overrides for word in ("--set", each))])
    shell(tmp_path / "shown", shlex.split(command)[3:-2])  # the command that the menu shows, into another folder
    files = {way: config_file(tmp_path / way) for way in ("menu", "page", "python", "shell", "shown")}
    assert set(files.values()) == {files["shell"]}


def config_file(runs_dir: Path) -> bytes:
    """config.yaml of the one run there."""
    (run_id,) = RunStore(runs_dir).ids()
    return (runs_dir / run_id / "config.yaml").read_bytes()


def shell(runs_dir: Path, words: list[str]) -> None:
    """`python -m moe_hub.train WORDS`."""
    assert train_command.main([*words, "--runs-dir", str(runs_dir)]) == 0


def python(runs_dir: Path, preset: str, overrides: list[str]) -> None:
    """`train(load_config(...))`."""
    train(load_config(preset, overrides=overrides), runs_dir=runs_dir)


def page(runs_dir: Path, preset: str, typed: dict[str, Any]) -> None:
    """The callback behind Start, with what the browser's inputs hold."""
    app = create_dashboard(runs_dir=runs_dir, data_dir=runs_dir.parent / "page-data")
    registered = app.callback_map or {each["output"]: each for each in app._callback_list}
    launch_job = registered[f"{ids.LAUNCH_MESSAGE}.children"]["callback"].__wrapped__
    values = {**to_raw(flatten(load_config(preset).model_dump(mode="json"))), **typed}
    said = launch_job(lambda report: None, request={"action": "start"}, preset=preset, values=values)
    assert said == ""


def menu(runs_dir: Path, preset: str, typed: dict[str, Any]) -> str:
    """The form and F9; returns the command that the form shows."""
    shown: list[str] = []
    (runs_dir.parent / "jobs").mkdir()

    async def perform() -> None:
        app = MenuApp(open_bench(runs_dir, runs_dir.parent / "menu-data", runs_dir.parent / "jobs"))
        async with app.run_test(size=(120, 40)) as pilot:
            form = app.tab("new")
            assert isinstance(form, NewRunScreen)
            while form.assessment is None:
                await pilot.pause(0.02)
            form.query_one("#preset", Select).value = preset
            while f"--preset {preset}" not in str(form.query_one("#command").content):
                await pilot.pause(0.02)
            form.query_one("#advanced", Checkbox).value = True
            for path, value in typed.items():
                selector = "#field-" + path.replace(".", "-")
                while not form.query(selector):
                    await pilot.pause(0.02)
                control = form.query_one(selector)
                assert isinstance(control, Input | Select | Checkbox)
                control.value = value
            await pilot.press("f9")
            while not RunStore(runs_dir).ids():
                await pilot.pause(0.02)
            shown.append(str(form.query_one("#command").content))

    run_apart(perform())
    return shown[0]
