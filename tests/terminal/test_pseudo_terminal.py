"""The real program in a real (pseudo) terminal, as a person at a login node uses it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from pty_screen import Terminal

from moe_hub import launch
from moe_hub.config import flatten, load_config
from moe_hub.runs.status import read_status
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.web import create_dashboard, ids
from moe_hub.workbench.fields import to_raw

SIZES = [(80, 24), (200, 50)]
# A run that makes steps from the start and does not end by itself.
QUICK = ("train.max_steps=100000", "train.batch_size=4", "train.log_every=1", "data.num_train_samples=256",
         "data.num_eval_samples=16", "train.eval_every=100000", "train.checkpoint_every=100000")  # fmt: skip
RAW_MODES = (1000, 1002, 1003, 1006, 1049, 2004, 1004)

pytestmark = [pytest.mark.training, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def open_terminal() -> Iterator[Callable[..., Terminal]]:
    """Opens terminals; they and what runs in them are closed at the end."""
    opened: list[Terminal] = []

    def start(size: tuple[int, int] = (80, 24), **environment: str) -> Terminal:
        opened.append(Terminal(size, **environment))
        opened[-1].wait("ready>")
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A folder whose trainers are stopped at the end."""
    store = RunStore(tmp_path / "runs")
    yield store
    for run_id in store.ids():
        launch.escalate_stop(store.runs_dir / run_id, patience_s=1)


def open_menu(terminal: Terminal, store: RunStore) -> None:
    """Starts the menu and waits until it takes keys."""
    terminal.run(["menu", "--runs-dir", str(store.runs_dir), "--data-dir", str(store.runs_dir.parent / "data")])
    terminal.wait("f9 Start")


def set_field(terminal: Terminal, name: str, label: str, value: str) -> None:
    """Looks for a field by its name and types a value over the old one. The focus is on the preset before and after."""
    terminal.press("tab")  # a key that is typed before the focus has moved goes to the old place
    terminal.wait("Find: part of")
    terminal.press(name)
    terminal.wait(lambda: terminal.shows(label) and len(_fields(terminal)) == 1)
    terminal.press("tab")
    terminal.wait("Advanced: shows")
    terminal.press("tab")
    terminal.wait(lambda: terminal.shows(rf"^ train\.{name}: "))
    terminal.press(value)
    terminal.wait(lambda: terminal.shows(label, rf" {re.escape(value)} "))


def leave_field(terminal: Terminal) -> None:
    """Back to the preset, with all fields shown."""
    terminal.press("shift+tab")
    terminal.wait("Advanced: shows")
    terminal.press("shift+tab")
    terminal.wait("Find: part of")
    terminal.press("\x15")  # Ctrl-U empties the search
    terminal.wait(lambda: len(_fields(terminal)) > 3)
    terminal.press("shift+tab")
    terminal.wait("Move to a field")


def _fields(terminal: Terminal) -> list[str]:
    """Rows of the form that show a field."""
    body = [line for line in terminal.lines[3:] if line.startswith("  ") and line[2:3].isalpha()]
    return [line for line in body if not line.startswith("   ")]


def step_of(terminal: Terminal) -> int:
    """The step on the screen; -1 where there is none."""
    found = re.search(r"step (\d+) of", terminal.text)
    return int(found[1]) if found else -1


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "200x50"])
def test_preset_wrong_value_start_watch_pause_resume_stop(
    size: tuple[int, int], open_terminal: Callable[..., Terminal], store: RunStore
) -> None:
    terminal = open_terminal(size)
    open_menu(terminal, store)
    terminal.press("enter")
    terminal.wait("ghost_expert_test")  # the list is open
    terminal.press("basic", "enter")
    terminal.wait(lambda: terminal.shows("Preset basic_comparison") and terminal.shows("Architecture", "Hypergraph"))
    set_field(terminal, "max_steps", "Steps", "0")
    row = terminal.wait(lambda: terminal.shows("Steps", "0: allowed is 1 to 100,000,000")) and terminal.shows("Steps")
    assert "allowed is" in row  # beside its field, in the same row
    assert terminal.shows("1 to correct")
    terminal.press("backspace", "20")
    terminal.wait(lambda: terminal.shows("1 changed from the preset. Ready to start."))
    leave_field(terminal)
    set_field(terminal, "batch_size", "Batch size", "64")
    leave_field(terminal)
    set_field(terminal, "log_every", "Log every", "1")
    terminal.press("f9")
    terminal.wait(lambda: step_of(terminal) >= 1 and "running" in terminal.text)
    seen = step_of(terminal)
    terminal.wait(lambda: step_of(terminal) > seen)
    terminal.press("p")
    terminal.wait(lambda: terminal.shows("paused: step"))
    run = store.find("latest")
    assert run.state() == "paused"
    config = run.config()
    assert (config.train.max_steps, config.train.batch_size, config.train.log_every) == (20, 64, 1)
    terminal.press("r")
    terminal.wait(lambda: terminal.shows("running: step"))
    terminal.press("x")
    terminal.wait(lambda: terminal.shows("stopped: step"))
    assert run.state() == "stopped"
    assert terminal.shows(r"[⠁-⣿]")  # the loss curve
    terminal.press("ctrl+q")
    terminal.wait(lambda: terminal.lines and not terminal.modes().get(1049))


def start_on_the_page(store: RunStore, overrides: Sequence[str]) -> RunDirectory:
    """What the page's Start does with what its inputs hold: the callback that Dash calls."""
    app = create_dashboard(runs_dir=store.runs_dir, data_dir=store.runs_dir.parent / "page")
    registered = app.callback_map or {each["output"]: each for each in app._callback_list}
    job = registered[f"{ids.LAUNCH_MESSAGE}.children"]["callback"].__wrapped__
    values = to_raw(flatten(load_config("basic_comparison", overrides=overrides).model_dump(mode="json")))
    assert job(lambda report: None, request={"action": "start"}, preset="basic_comparison", values=values) == ""
    return store.find("latest")


def test_what_the_page_started_is_watched_and_stopped_in_the_terminal(
    open_terminal: Callable[..., Terminal], store: RunStore
) -> None:
    run = start_on_the_page(store, QUICK)
    terminal = open_terminal()
    terminal.run(["watch", "latest", "--runs-dir", str(store.runs_dir)])
    terminal.wait(lambda: step_of(terminal) >= 2 and terminal.shows(r"[⠁-⣿]"))
    other = open_terminal()
    other.run(["stop", run.run_id[:18], "--runs-dir", str(store.runs_dir)])
    other.wait("is stopped")
    terminal.wait(lambda: terminal.shows("stopped: step") and terminal.shows("^ready>"))
    assert run.state() == "stopped"


def test_what_the_terminal_started_is_watched_and_stopped_on_the_page(
    open_terminal: Callable[..., Terminal], store: RunStore
) -> None:
    terminal = open_terminal()
    flags = [word for each in QUICK for word in ("--set", each)]
    terminal.run(["train", "--preset", "basic_comparison", "--runs-dir", str(store.runs_dir), *flags])
    app = create_dashboard(runs_dir=store.runs_dir, data_dir=store.runs_dir.parent / "page")
    client = app.server.test_client()

    def line() -> dict[str, Any]:
        run_id = next(iter(store.ids()), "")
        answer = client.get("/api/live", query_string={"focus": run_id, "width_px": 800}).get_json() if run_id else {}
        return answer.get("status", {}).get("line", {})

    terminal.wait(lambda: line().get("state") == "running" and line()["step"] >= 1)
    seen = line()["step"]
    terminal.wait(lambda: line()["step"] > seen)
    buttons = [ids.PAUSE, ids.RESUME, ids.STOP, ids.SAVE]
    body = {
        "output": f"{ids.CONTROL_MESSAGE}.children",
        "outputs": {"id": ids.CONTROL_MESSAGE, "property": "children"},
        "inputs": [{"id": each, "property": "n_clicks", "value": int(each == ids.STOP)} for each in buttons],
        "state": [{"id": ids.SELECTION, "property": "data", "value": {"focus": line()["id"], "selected": []}}],
        "changedPropIds": [f"{ids.STOP}.n_clicks"],
    }
    assert "Stop requested" in client.post("/_dash-update-component", json=body).text
    terminal.wait("stopped at step")
    terminal.wait(lambda: line()["state"] == "stopped")


def test_kill_of_the_menu_leaves_the_run_alive_and_the_terminal_usable(
    open_terminal: Callable[..., Terminal], store: RunStore
) -> None:
    config = load_config("basic_comparison", overrides=QUICK)
    run_id = launch.launch_run(store.runs_dir, config)
    run = store.open(run_id)
    terminal = open_terminal()
    open_menu(terminal, store)
    terminal.press("f2")
    terminal.wait(lambda: step_of(terminal) >= 1)
    assert terminal.modes()[1049]
    assert terminal.modes()[1003]
    os.kill(menu_pid(terminal), signal.SIGKILL)
    terminal.wait("the menu was ended by signal 9")
    terminal.child.sendline("stty -a; echo usable $((40 + 2))")
    terminal.wait("usable 42")
    assert terminal.shows(r" echo ")  # not -echo
    assert terminal.shows(r" icanon ")
    modes = terminal.modes()
    assert {mode: modes.get(mode, False) for mode in RAW_MODES} == dict.fromkeys(RAW_MODES, False)
    assert modes[25]
    assert is_moving(run)


def test_a_menu_without_its_guard_ends_and_restores_the_terminal(
    open_terminal: Callable[..., Terminal], store: RunStore
) -> None:
    terminal = open_terminal()
    open_menu(terminal, store)
    menu = psutil.Process(menu_pid(terminal))
    os.kill(menu.ppid(), signal.SIGKILL)
    psutil.wait_procs([menu], timeout=60)
    assert not menu.is_running()
    terminal.child.sendline("stty sane; echo usable $((40 + 2))")
    terminal.wait("usable 42")
    assert not terminal.modes()[1049]


def test_the_menu_can_be_suspended_and_brought_back(open_terminal: Callable[..., Terminal], store: RunStore) -> None:
    terminal = open_terminal()
    open_menu(terminal, store)
    terminal.press("ctrl+z")
    terminal.wait(lambda: "Stopped" in terminal.text and not terminal.modes()[1049])
    terminal.child.sendline("fg")
    terminal.wait(lambda: terminal.modes()[2004] and terminal.modes()[1049])  # 2004 is set last: it reads keys again
    prompts = terminal.raw.count(b"ready> ")
    terminal.press("ctrl+q")
    terminal.wait(lambda: terminal.raw.count(b"ready> ") > prompts)  # what is typed before belongs to the menu
    assert not terminal.modes()[1049]
    terminal.child.sendline("echo usable $((40 + 2))")
    terminal.wait("usable 42")


def menu_pid(terminal: Terminal) -> int:
    """The process that draws."""
    for process in psutil.Process(terminal.child.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "moe_hub.terminal.menu" in process.cmdline():
                return process.pid
    raise AssertionError("no menu runs here")


def is_moving(run: RunDirectory) -> bool:
    """Whether the run makes steps."""
    begin = read_status(run.path)
    assert begin is not None
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        status = read_status(run.path)
        if run.state() == "running" and status is not None and status.step > begin.step:
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a tmux server of its own, which ends with all that runs in it."""
    if shutil.which("tmux") is None:
        pytest.skip("no tmux here")
    names = {"TMUX_TMPDIR": str(tmp_path), "SHELL": shutil.which("bash") or ""}
    yield names
    subprocess.run(["tmux", "kill-server"], env={**os.environ, **names}, stderr=subprocess.DEVNULL, check=False)


def test_in_tmux_it_is_detached_and_attached_again(
    open_terminal: Callable[..., Terminal], store: RunStore, tmux: dict[str, str]
) -> None:
    terminal = open_terminal((100, 30), **tmux)
    terminal.child.sendline("tmux -f /dev/null new-session -s work")
    terminal.wait("[work]")
    open_menu(terminal, store)
    terminal.press("f3")
    terminal.wait("space Mark")
    terminal.press("\x02", "d")
    terminal.wait("[detached (from session work)]")
    terminal.screen.erase_in_display(2)  # pyte has no second screen: what tmux showed would still stand there
    terminal.child.sendline("tmux attach")
    terminal.wait(lambda: "space Mark" in terminal.text and "[work]" in terminal.text)
    # Pressed until it is heard: tmux drops a key that comes while it asks the new terminal what it is.
    terminal.wait(lambda: terminal.press("f1") or "f9 Start" in terminal.text)
    terminal.press("ctrl+q")
    terminal.wait(lambda: "f9 Start" not in terminal.text)
    terminal.child.sendline("echo usable $((40 + 2))")
    terminal.wait("usable 42")
