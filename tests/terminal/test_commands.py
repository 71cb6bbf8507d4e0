"""The commands on runs: what they print, what they do, and their exit codes."""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from moe_hub import __main__ as hub
from moe_hub import __version__, launch
from moe_hub.config import Config, load_config, preset_names
from moe_hub.runs import control
from moe_hub.runs.queue import RunQueue
from moe_hub.runs.status import Status, process_identity, read_status, write_status
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.terminal import controls, listing, watch
from moe_hub.terminal.table import age, duration, lay_out, number, one_line

Hub = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def moe_hub(store: RunStore, capsys: pytest.CaptureFixture[str]) -> Hub:
    """Runs `moe-hub WORDS --runs-dir ...`; gives exit code, stdout and stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        try:
            code = hub.main([*words, "--runs-dir", str(store.runs_dir)])
        except SystemExit as end:
            code = int(str(end.code))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def made(store: RunStore, name: str = "run", **status: object) -> RunDirectory:
    run = store.create(Config(name=name))
    write_status(run.path, Status(**{"state": "finished", **status}))  # type: ignore[arg-type]
    return run


def alive(state: str) -> dict[str, object]:
    """Of a run that this process trains."""
    return {"state": state, "heartbeat": time.time(), **process_identity()}


# --- the command itself


def test_no_command_prints_the_help_and_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert hub.main([]) == 2
    assert "usage: moe-hub COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--help", "-h", "help"])
def test_help_names_every_command(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert hub.main([flag]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in hub.COMMANDS)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert hub.main(["--version"]) == 0
    assert capsys.readouterr().out == f"moe-hub {__version__}\n"


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert hub.main(["wach"]) == 2
    assert "error: unknown command 'wach'; did you mean watch?" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in hub.COMMANDS if "terminal" in hub.COMMANDS[name][0]])
def test_each_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        hub.main([name, "--help"])
    assert end.value.code == 0
    assert f"usage: moe-hub {name}" in capsys.readouterr().out


def test_the_other_commands_are_handed_to_their_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    class Module:
        @staticmethod
        def main(arguments: list[str]) -> int:
            seen.append(arguments)
            return 7

    monkeypatch.setattr(
        hub.importlib, "import_module", lambda name: Module if name.endswith("train.__main__") else None
    )
    assert hub.main(["train", "--preset", "x"]) == 7
    assert seen == [["--preset", "x"]]


def test_help_comes_at_once_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from moe_hub.__main__ import main; main(['--help']);"
        "print({'torch', 'dash', 'plotly', 'transformers', 'pydantic', 'numpy'} & set(sys.modules))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.endswith("set()\n")
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 0.3


# --- runs


def test_runs_as_a_table(store: RunStore, moe_hub: Hub) -> None:
    run = made(store, step=5, max_steps=2000, metrics={"train/loss": 0.51234, "val/loss": math.nan})
    store.rename(run.run_id, "my \x1b[31m label")
    store.tag(run.run_id, ["a"])
    code, out, err = moe_hub("runs")
    assert (code, err) == (0, "")
    head, line = out.splitlines()
    assert head.split() == ["RUN", "STATE", "STEP", "TRAIN", "LOSS", "VAL", "LOSS", "AGE", "LABEL", "AND", "TAGS"]
    assert line.split()[:5] == [run.run_id, "finished", "5/2,000", "0.5123", "nan"]
    assert line.endswith("#a")
    assert "\x1b" not in line


def test_runs_as_json_are_strict_json(store: RunStore, moe_hub: Hub) -> None:
    run = made(store, step=5, metrics={"train/loss": math.inf})
    code, out, _ = moe_hub("runs", "--json")
    (row,) = json.loads(out, parse_constant=lambda token: pytest.fail(token))
    assert code == 0
    assert (row["run_id"], row["state"], row["step"], row["metrics"]) == (
        run.run_id, "finished", 5, {"train/loss": "Infinity"},
    )  # fmt: skip


def test_runs_are_filtered_and_sorted(store: RunStore, moe_hub: Hub) -> None:
    worst = made(store, "worst", metrics={"val/loss": 3.0}, step=1)
    best = made(store, "best", metrics={"val/loss": 1.0}, step=9)
    none = made(store, "none", state="failed", metrics={"val/loss": math.nan}, step=5)
    store.tag(best.run_id, ["x", "y"])

    def ids(*words: str) -> list[str]:
        return [row["run_id"] for row in json.loads(moe_hub("runs", "--json", *words)[1])]

    assert ids("--sort", "val-loss") == [best.run_id, worst.run_id, none.run_id]
    assert ids("--sort", "step") == [best.run_id, none.run_id, worst.run_id]
    assert ids("--sort", "name") == [best.run_id, none.run_id, worst.run_id]
    assert ids("--state", "failed") == [none.run_id]
    assert ids("--tag", "x", "--tag", "y") == [best.run_id]
    assert ids("--tag", "z") == []
    store.delete(none.run_id)
    assert ids("--trash") == [none.run_id]


def test_no_runs_is_said_and_no_failure(moe_hub: Hub) -> None:
    code, out, err = moe_hub("runs")
    assert (code, out) == (0, "")
    assert err.startswith("no runs in ")
    assert moe_hub("runs", "--json")[1] == "[]\n"


def test_queued_runs_show_their_place(store: RunStore) -> None:
    first, second = (store.create(Config(), "queued") for _ in range(2))
    lines = listing.table(store.list(), (second.run_id, first.run_id), None)
    states = {line.split()[0]: line.split()[1:3] for line in lines[1:]}
    assert states[second.run_id] == ["queued", "1"]
    assert states[first.run_id] == ["queued", "2"]


def test_a_reader_that_goes_away_is_no_error(store: RunStore) -> None:
    for _ in range(30):
        made(store)
    command = f"{sys.executable} -m moe_hub runs --json --runs-dir {store.runs_dir} | head -c 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[", "")


# --- one run


@pytest.mark.parametrize("name", ["watch", "pause", "resume", "stop", "save"])
@pytest.mark.parametrize("text", ["nothing", "", "../../etc", "latest"])
def test_a_run_that_is_not_there_is_bad_usage(moe_hub: Hub, name: str, text: str) -> None:
    code, out, err = moe_hub(name, text)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")


@pytest.mark.parametrize("action", ["pause", "resume", "save"])  # a pause may be taken and not in the status yet
def test_a_running_run_takes_the_request(store: RunStore, moe_hub: Hub, action: str) -> None:
    run = made(store, "fake", **alive("running"))
    taken: list[str] = []

    def trainer() -> None:
        while not taken:
            taken.extend(request.action for request in control.take(run.path))
            time.sleep(0.01)

    thread = threading.Thread(target=trainer)
    thread.start()
    code, out, _ = moe_hub(action, "fake")
    thread.join()
    assert (code, out, taken) == (0, f"{run.run_id}: {action}: taken\n", [action])


def test_a_trainer_that_is_in_a_long_step_gets_the_request_later(
    store: RunStore, moe_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controls, "ANSWER_S", 0.1)
    run = made(store, **alive("running"))
    code, out, _ = moe_hub("save", "latest")
    assert (code, out) == (0, f"{run.run_id}: save: left for the trainer, which takes it after its step\n")
    assert [request.action for request in control.waiting(run.path)] == ["save"]


@pytest.mark.parametrize("state", ["finished", "stopped", "failed", "interrupted", "queued"])
@pytest.mark.parametrize("action", ["pause", "save"])
def test_only_a_running_run_is_asked(store: RunStore, moe_hub: Hub, state: str, action: str) -> None:
    run = made(store, state=state)
    code, _, err = moe_hub(action, "latest")
    assert code == 1
    assert f"is {state}; only a run that is running can be asked to {action}" in err
    assert control.waiting(run.path) == []


def test_pausing_twice_asks_once(store: RunStore, moe_hub: Hub) -> None:
    run = made(store, **alive("paused"))
    assert moe_hub("pause", "latest")[1] == f"{run.run_id}: is paused already\n"
    assert control.waiting(run.path) == []


def test_resume_asks_a_paused_run_and_starts_an_ended_one(
    store: RunStore, moe_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controls, "ANSWER_S", 0.1)
    started: list[tuple[Path, bool]] = []
    monkeypatch.setattr(launch, "start", lambda path, resume: started.append((path, resume)))
    run = made(store, **alive("paused"))
    assert moe_hub("resume", "latest")[0] == 0
    assert [request.action for request in control.waiting(run.path)] == ["resume"]
    assert started == []
    write_status(run.path, Status(state="interrupted"))
    assert moe_hub("resume", "latest")[1] == f"{run.run_id}: started again from its last checkpoint\n"
    assert started == [(run.path, True)]


def test_what_is_finished_or_queued_is_not_resumed(store: RunStore, moe_hub: Hub) -> None:
    run = made(store)
    assert moe_hub("resume", "latest")[0] == 1
    write_status(run.path, Status(state="queued"))
    assert "waits in the queue" in moe_hub("resume", "latest")[2]


OBEDIENT = """
import sys, time
from dataclasses import replace
from pathlib import Path
from moe_hub.runs import control
from moe_hub.runs.status import process_identity, read_status, write_status
run = Path(sys.argv[1])
write_status(run, replace(read_status(run), state="running", heartbeat=time.time(), **process_identity()))
while not control.take(run): time.sleep(0.01)
write_status(run, replace(read_status(run), state="stopped"))
"""


def test_stop_ends_a_run_and_says_how(store: RunStore, moe_hub: Hub) -> None:
    run = store.create(Config())
    launch.start(run.path, command=[sys.executable, "-c", OBEDIENT, str(run.path)])
    deadline = time.monotonic() + 10
    while run.state() != "running" and time.monotonic() < deadline:
        time.sleep(0.01)
    code, out, _ = moe_hub("stop", "latest")
    assert (code, out) == (0, f"{run.run_id}: asked to stop\n{run.run_id}: is stopped\n")
    assert moe_hub("stop", "latest")[:2] == (0, f"{run.run_id}: is stopped already\n")


def test_stop_takes_a_queued_run_out(store: RunStore, moe_hub: Hub) -> None:
    run = store.create(Config(), "queued")
    RunQueue(store.runs_dir).add(run.run_id)
    assert moe_hub("stop", "latest")[:2] == (0, f"{run.run_id}: taken out of the queue\n")
    assert RunQueue(store.runs_dir).waiting() == ()


# --- watch


def test_watch_follows_to_the_end(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    run = made(store, **alive("running"), max_steps=200, metrics={"train/loss": 2.5, "time/step_s": 0.5})
    result: list[int] = []
    thread = threading.Thread(target=lambda: result.append(watch.watch(run, poll_s=0.01)))
    thread.start()
    status = read_status(run.path)
    assert status is not None
    for state in ("paused", "running", "finished"):
        time.sleep(0.1)
        write_status(run.path, replace(status, state=state, step=100, heartbeat=time.time()))
    thread.join()
    lines = capsys.readouterr().out.splitlines()
    assert result == [0]
    assert lines[0] == f"run {run.run_id}"
    assert lines[1].startswith("running: step 0 of 200 (0 %)  loss 2.5  1 min 40 s left  heartbeat 0 s ago")
    assert [line.split(":")[0] for line in lines[1:]] == ["running", "paused", "running", "finished"]


@pytest.mark.parametrize(("state", "code"), [("finished", 0), ("stopped", 0), ("failed", 1), ("interrupted", 1)])
def test_the_exit_code_of_watch_is_that_of_the_run(store: RunStore, moe_hub: Hub, state: str, code: int) -> None:
    run = made(store, state=state, exit_reason="out of memory: lower train.batch_size")
    (run.path / "log.txt").write_text("first\nlast \x1b]0;title\x07 line\n")
    found, out, _ = moe_hub("watch", "latest")
    assert found == code
    assert ("out of memory: lower train.batch_size" in out) == (code == 1)
    assert ("  last  ]0;title  line" in out) == (code == 1)
    assert "\x1b" not in out


def test_watch_once_tells_and_leaves(store: RunStore, moe_hub: Hub) -> None:
    made(store, **alive("running"))
    begin = time.perf_counter()
    assert moe_hub("watch", "latest", "--once")[0] == 0
    assert time.perf_counter() - begin < 5  # it does not wait for the run to end


def test_a_line_is_drawn_over_in_a_terminal(
    store: RunStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    run = made(store, max_steps=5, step=5, reason="x" * 100)
    assert watch.watch(run, terminal=True, curve=False) == 0
    line = capsys.readouterr().out.split("\n")[1]
    assert line.startswith("\033[2Kfinished: step 5 of 5 (100 %)")
    assert len(line) - len("\033[2K") < 40


def test_only_lines_that_changed_are_drawn_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")

    class Two(watch.Screen):
        def lines(self, line: str, width: int, height: int) -> list[str]:
            return ["same", line]

    screen = Two()
    screen.show("one")
    screen.show("two")
    assert capsys.readouterr().out == "\033[2Ksame\n\033[2Kone\n\033[2F\n\033[2Ktwo\n"
    monkeypatch.setenv("COLUMNS", "50")  # the terminal wraps what stands there in its own way
    screen.show("two")
    assert capsys.readouterr().out == "\033[2Ksame\n\033[2Ktwo\n"


def test_watch_leaves_the_run_alone_on_ctrl_c(store: RunStore, moe_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(store, **alive("running"))

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", interrupt)
    assert moe_hub("watch", "latest")[0] == 0
    assert run.state() == "running"
    assert control.waiting(run.path) == []


# --- diff and presets


def test_diff_shows_what_differs_and_nothing_else(store: RunStore, moe_hub: Hub) -> None:
    first = store.create(load_config("basic_comparison", overrides=["name=one"]))
    second = store.create(load_config("basic_comparison", overrides=["name=two", "train.max_steps=7"]))
    write_status(first.path, Status(state="finished", metrics={"val/loss": 1.0, "train/loss": 0.5}))
    write_status(second.path, Status(state="finished", metrics={"val/loss": 1.25}))
    code, out, _ = moe_hub("diff", "one", "two")
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["CONFIG", first.run_id, second.run_id]
    assert ["train.max_steps", str(first.config().train.max_steps), "7"] in rows
    assert ["val/loss", "1", "1.25", "+0.25"] in rows
    assert ["train/loss", "0.5", "-"] in rows
    assert not any("model.d_model" in row for row in rows)
    found = json.loads(moe_hub("diff", "one", "two", "--json")[1])
    assert set(found["config"]) == {"name", "train.max_steps"}
    assert found["metrics"]["val/loss"] == [1.0, 1.25]


def test_diff_of_a_run_with_itself(store: RunStore, moe_hub: Hub) -> None:
    made(store, "one")
    assert moe_hub("diff", "one", "latest")[:2] == (0, "the configs are the same\n")
    assert moe_hub("diff", "one", "none")[0] == 2


def test_presets_are_listed_with_what_they_are_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert hub.main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == preset_names()
    assert hub.main(["presets", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(row["about"] and row["architecture"] and row["mode"] for row in rows)


# --- text


def test_tables_numbers_and_times() -> None:
    assert lay_out([("A", "B"), ("1", "22"), ("333", "4")], frozenset({1})) == ["A     B", "1    22", "333   4"]
    assert lay_out([("abcdef",)], width=4) == ["abc…"]
    assert [number(value) for value in (None, 1234567, 0.000012345, math.nan)] == ["-", "1,234,567", "1.234e-05", "nan"]
    assert [duration(seconds) for seconds in (-1, 0, 59, 61, 3600, 90061)] == [
        "0 s", "0 s", "59 s", "1 min 1 s", "1 h", "1 d 1 h",
    ]  # fmt: skip
    assert age(time.time() - 7300) == "2 h"
    assert one_line("a\nb\x1b[0m\x07é") == "a b [0m é"


def test_the_installed_command_is_this_one() -> None:
    script = Path(sys.executable).parent / "moe-hub"
    if not script.exists():
        pytest.skip("the package is not installed here")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout == f"moe-hub {__version__}\n"
