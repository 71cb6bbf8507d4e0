"""Every command and every Python block of the documents is run, as the table in documented_commands.py says."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from documented_commands import ROOT, RULES, TINY, commands, python_blocks, rule_of, to_run

from moe_hub.config import field_paths, load_config, preset_names
from moe_hub.runs.status import Status, read_status, write_status
from moe_hub.runs.store import RunStore
from moe_hub.runs.writer import MetricWriter

PATIENCE_S = 240.0
QUICK_PROGRAMS = ("make", "extra", "true", "df", "curl", "python3", "bash")
TINY_OVERRIDES = tuple(TINY.replace("--set ", "").split())
LIVE_ORDER = ("watch latest --once", "pause latest", "resume latest", "save latest", "stop latest")


@dataclass(frozen=True)
class Workspace:
    """A folder in which documented commands are typed, and what their placeholders stand for."""

    folder: Path
    run_id: str
    stopped: str = ""
    file_run: str = ""

    def filled(self, command: str) -> str:
        """The command with runs and checkpoints that exist."""
        command = command.replace("FILE_CHECKPOINT", f"runs/{self.file_run}/checkpoints/step_00000004")
        command = re.sub(r"(?<!/)\bRUN_[AB]\b", f"runs/{self.run_id}", command)
        command = command.replace("RUN_ID", self.run_id).replace("STOPPED", self.stopped)
        steps = sorted(set(re.findall(r"step_\d{8}", command)))
        for step in steps:
            mine = "step_00000004" if step == steps[-1] or "00000004" in step else "step_00000002"
            command = command.replace(step, mine)
        return command


def new_folder(folder: Path) -> Path:
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "examples").symlink_to(ROOT / "examples")
    rows = [f'{{"question": "what is {number} plus 1", "answer": "{number + 1}"}}\n' for number in range(200)]
    (folder / "rows.jsonl").write_text("".join(rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A run that ended, written without a trainer."""
    folder = new_folder(tmp_path_factory.mktemp("workspace"))
    run = RunStore(folder / "runs").create(load_config("basic_comparison"))
    with MetricWriter(run.path) as writer:
        for step in (5, 10):
            writer.write(step, {"train/loss": 4.0, "val/loss": 4.1}, tokens=64 * step, time=1000.0 + step)
    write_status(run.path, Status("finished", step=10, max_steps=10))
    return Workspace(folder, run.run_id)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Three runs of four steps: one on lambda tasks, one of them cut short, one on a file of rows."""
    from moe_hub.train import train

    folder = new_folder(tmp_path_factory.mktemp("trained"))
    patch = pytest.MonkeyPatch()
    patch.setenv("MOE_HUB_DATA", str(folder / "data"))
    runs = folder / "runs"
    small = ("model.d_model=16", "model.num_heads=2", *TINY_OVERRIDES)
    run_id = train(load_config("basic_comparison", overrides=small), runs_dir=runs)
    of_file = ("data.source=file", f"data.path={folder / 'rows.jsonl'}")
    file_run = train(load_config("basic_comparison", overrides=(*small, *of_file)), runs_dir=runs)
    stopped = f"{run_id[:-4]}{'0000' if run_id[-4:] != '0000' else '0001'}"
    shutil.copytree(runs / run_id, runs / stopped)
    shutil.rmtree(runs / stopped / "checkpoints" / "step_00000004")
    status = read_status(runs / stopped)
    assert status is not None
    write_status(runs / stopped, replace(status, state="interrupted", step=2))
    yield Workspace(folder, run_id, stopped, file_run)
    patch.undo()


@pytest.fixture
def type_it(monkeypatch: pytest.MonkeyPatch) -> Callable[[Workspace, str], int]:
    """Runs a command of the package in a workspace, within this process, and returns its exit code."""

    def run(place: Workspace, command: str) -> int:
        monkeypatch.chdir(place.folder)
        monkeypatch.setenv("MOE_HUB_DATA", str(place.folder / "data"))
        words = shlex.split(place.filled(command))
        if words[0] == "ls":
            return subprocess.run(words, check=False, stdout=subprocess.DEVNULL).returncode
        name = "moe_hub" if words[0] == "moe-hub" else words[2]
        arguments = words[1:] if words[0] == "moe-hub" else words[3:]
        module = importlib.import_module(_main_of(name))
        try:
            code: int = module.main(arguments)
        except SystemExit as ended:
            return int(ended.code or 0)
        return code

    return run


# --- the table


def test_every_command_has_a_rule_and_every_rule_a_command() -> None:
    unknown = {command: document for command, document in commands().items() if rule_of(command) is None}
    assert not unknown, "say in tests/documented_commands.py how these are tested"
    used = {rule_of(command) for command in commands()}
    assert not [rule.pattern for rule in RULES if rule not in used], "no document shows these any more"


def test_the_table_sees_a_new_command() -> None:
    assert rule_of("python -m moe_hub.export html latest") is None
    assert rule_of("moe-hub runs --nonsense") is None
    assert rule_of("python -m moe_hub.train --preset geometric_lambda --fast") is None


def test_the_parsers_take_every_command_as_it_stands() -> None:
    from moe_hub.__main__ import parser_of

    seen = 0
    for command, document in commands().items():
        words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=.*", word)]
        if words[0] == "moe-hub" and words[1] != "COMMAND" and len(words) > 2:
            parser, rest = parser_of(words[1]), words[2:]
        elif words[:2] == ["python", "-m"] and words[2].startswith("moe_hub.") and len(words) > 3:
            module = importlib.import_module(_main_of(words[2]))
            if not hasattr(module, "build_parser"):
                continue  # the flags of another program
            parser, rest = module.build_parser(), words[3:]
        else:
            continue
        try:
            parser.parse_args(rest)
        except SystemExit:
            pytest.fail(f"{document}: {command}")
        for key in (rest[number + 1].partition("=")[0] for number, word in enumerate(rest) if word == "--set"):
            assert key in field_paths(), (document, command)
        for preset in (rest[number + 1] for number, word in enumerate(rest) if word == "--preset"):
            assert preset in preset_names(), (document, command)
        seen += 1
    assert seen > 50


def _main_of(name: str) -> str:
    return f"{name}.__main__" if (ROOT / name.replace(".", "/")).is_dir() else name


# --- the commands


@pytest.mark.parametrize("command", to_run("plain"))
def test_a_command_that_needs_no_model(
    command: str, workspace: Workspace, type_it: Callable[[Workspace, str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert type_it(workspace, command) == to_run("plain")[command].code, capsys.readouterr().err
    captured = capsys.readouterr()
    assert captured.out or captured.err


@pytest.mark.training
@pytest.mark.slow
@pytest.mark.parametrize("command", to_run("training"))
def test_a_command_that_needs_a_model(
    command: str, trained: Workspace, type_it: Callable[[Workspace, str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert type_it(trained, command) == 0, capsys.readouterr().err


@pytest.mark.training
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_of_a_live_run(
    tmp_path: Path, type_it: Callable[[Workspace, str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from moe_hub import launch

    assert {f"moe-hub {words}" for words in LIVE_ORDER} == set(to_run("live"))
    monkeypatch.setenv("MOE_HUB_DATA", str(tmp_path / "data"))
    slow = ("train.max_steps=100000", "train.log_every=1", "train.threads=1", "data.num_train_samples=64",
            "data.num_eval_samples=8", "train.eval_every=100000")  # fmt: skip
    run_id = launch.launch_run(tmp_path / "runs", load_config("basic_comparison", overrides=slow))
    run = RunStore(tmp_path / "runs").open(run_id)
    place = Workspace(tmp_path, run_id)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while run.status().step < 1:
            assert time.monotonic() < deadline, run.status()
            time.sleep(0.2)
        for words in LIVE_ORDER:
            assert type_it(place, f"moe-hub {words}") == 0, words
        assert run.state() == "stopped"
    finally:
        if run.state() not in ("stopped", "failed", "finished"):
            type_it(place, f"moe-hub stop {run_id}")


@pytest.mark.slow
@pytest.mark.parametrize("command", to_run("server"))
def test_a_server_answers_and_ends(command: str, tmp_path: Path) -> None:
    given = dict(re.findall(r"^([A-Z_]+)=(\S+) ", command))
    words = [sys.executable, *shlex.split(command)[len(given) + 1 :]]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    if "--port" in words:
        words[words.index("--port") + 1] = port
    else:
        words += ["--port", port]
    prefix = words[words.index("--url-base-path") + 1] if "--url-base-path" in words else "/"
    environment = {**os.environ, **given, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert f":{port}{prefix}" in server.stdout.readline()
        request = urllib.request.Request(f"http://127.0.0.1:{port}{prefix}healthz")
        if token := given.get("MOE_HUB_TOKEN"):
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(request, timeout=PATIENCE_S)
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            assert answer.status == 200
    finally:
        server.terminate()
        server.wait(PATIENCE_S)
        server.stdout.close()
    assert server.returncode == 0


def _marked(command: str) -> object:
    quick = command.split()[0] in QUICK_PROGRAMS
    return pytest.param(command, marks=[] if quick else [pytest.mark.slow])


@pytest.mark.parametrize("command", [_marked(command) for command in to_run("dry")])
def test_another_program(command: str, tmp_path: Path) -> None:
    words = shlex.split(command)
    if words[0] == "extra":
        parser = ConfigParser()
        parser.read(ROOT / "setup.cfg")
        assert words[1] in parser["options.extras_require"]
        return
    if words[0] != "make" and shutil.which(words[0]) is None and words[0] not in ("python", "torchrun"):
        pytest.skip(f"{words[0]} is not installed")
    if words[0] in ("python", "torchrun"):
        beside = Path(sys.executable).parent
        words[:1] = [sys.executable] if words[0] == "python" else [str(beside / "torchrun")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S * 2)
    assert done.returncode == 0, done.stderr


# --- Python


def _block_marked(block: tuple[str, str]) -> object:
    heavy = "moe_hub.train" in block[1] or "transformers" in block[1]
    return pytest.param(block[1], id=block[0], marks=[pytest.mark.training, pytest.mark.slow] if heavy else [])


@pytest.mark.parametrize("program", [_block_marked(block) for block in python_blocks()])
def test_a_block_of_python(
    program: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    type_it: Callable[[Workspace, str], int],
) -> None:
    if "from_pretrained" in program:
        place = request.getfixturevalue("trained")
        shutil.rmtree(place.folder / "model", ignore_errors=True)
        assert type_it(place, "python -m moe_hub.export model RUN_ID") == 0
        program = place.filled(program)
    else:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MOE_HUB_DATA", str(tmp_path / "data"))
        overrides = ", ".join(map(repr, TINY_OVERRIDES))
        program = program.replace('"train.max_steps=50"', overrides)
    exec(compile(program, "<document>", "exec"), {"__name__": "documented"})
