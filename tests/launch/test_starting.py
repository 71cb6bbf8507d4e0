"""A trainer that is started here belongs to nobody: what happens to the launcher does not reach it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from fake_programs import OBEDIENT, PROLOGUE, QUICK, is_gone, pid_of, program, wait_until

from moe_hub import launch
from moe_hub.config import Config, load_config
from moe_hub.errors import RunError
from moe_hub.launch import starting
from moe_hub.runs import control
from moe_hub.runs.status import Status, process_identity, write_status
from moe_hub.runs.store import RunDirectory, RunStore

pytestmark = pytest.mark.slow


def step_of(run: RunDirectory) -> int:
    status = run.status()
    return status.step if status else 0


def test_a_trainer_runs_in_its_own_session_with_init_as_parent(run: RunDirectory) -> None:
    launch.start(run.path, command=program(OBEDIENT))
    pid = pid_of(run)  # known at once: it does not depend on the trainer
    assert os.getsid(pid) == pid
    assert os.getpgid(pid) == pid
    parents = {process.pid for process in psutil.Process(pid).parents()}
    assert os.getpid() not in parents
    assert psutil.Process(pid) not in psutil.Process().children(recursive=True)
    wait_until(lambda: step_of(run) > 0)
    assert pid_of(run) == pid
    control.request(run.path, "stop")
    wait_until(lambda: run.state() == "stopped")


def test_its_input_is_closed_and_its_output_is_in_the_log(run: RunDirectory) -> None:
    (run.path / "log.txt").write_text("before\n")
    launch.start(run.path, command=program("import sys; print('out', sys.stdin.read()); print('err', file=sys.stderr)"))
    wait_until(lambda: "err" in run.log_tail())
    assert run.log_tail().startswith("before\n")
    assert {"out", "err"} <= set(run.log_tail().split())


def test_a_flood_of_output_with_nobody_there_does_not_stop_it(run: RunDirectory) -> None:
    flood = PROLOGUE + "report('running')\nfor _ in range(3000): print('x' * 1000, file=sys.stderr)\nreport('finished')"
    launch.start(run.path, command=program(flood))
    wait_until(lambda: run.state() == "finished")
    assert (run.path / "log.txt").stat().st_size >= 3_000_000


LAUNCHER = """
import sys, time
from pathlib import Path
from moe_hub import launch
launch.start(Path(sys.argv[1]), command=[sys.executable, "-c", sys.argv[2]])
print("started", flush=True)
time.sleep(60)
"""


def test_it_survives_the_death_of_the_launcher_and_of_all_its_descendants(run: RunDirectory) -> None:
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(run.path), OBEDIENT], stdout=subprocess.PIPE)
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == b"started\n"
    family = psutil.Process(launcher.pid).children(recursive=True)
    for process in (*family, psutil.Process(launcher.pid)):  # as a background job of the page is ended
        process.kill()
    launcher.wait()
    launcher.stdout.close()
    step = step_of(run)
    wait_until(lambda: step_of(run) > step + 5)
    assert run.state() == "running"
    control.request(run.path, "stop")
    wait_until(lambda: run.state() == "stopped")


def test_a_second_start_is_refused(run: RunDirectory) -> None:
    launch.start(run.path, command=program(OBEDIENT))
    for _ in range(2):
        with pytest.raises(RunError, match=r"is (starting|running) already; stop it before it is started again"):
            launch.start(run.path, command=program(OBEDIENT))
        wait_until(lambda: run.state() == "running")


def test_of_several_starts_at_once_one_starts(run: RunDirectory) -> None:
    refused: list[str] = []

    def start() -> None:
        try:
            launch.start(run.path, command=program("import time; print('here', flush=True); time.sleep(30)"))
        except RunError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 4
    wait_until(lambda: "here" in run.log_tail())
    assert run.log_tail().count("here") == 1


def test_a_starter_that_is_late_does_not_start_a_second_trainer(run: RunDirectory) -> None:
    """Its claim has gone to another launch meanwhile."""
    claim = starting._claim(run, resume=False, only_queued=False)
    status = run.status()
    assert status is not None
    write_status(run.path, replace(status, heartbeat=0.0))
    starting._claim(run, resume=True, only_queued=False)
    problem = starting.detach(program("print('here')"), run.path / "log.txt", run_dir=run.path, launch_id=claim)
    assert problem == "another start of this run came first, or its folder cannot be written"
    assert run.log_tail() == ""


def test_a_trainer_that_dies_while_it_starts_is_known_to_be_gone(run: RunDirectory) -> None:
    launch.start(run.path, command=program("raise SystemExit('no torch here')"))
    wait_until(lambda: run.state() == "interrupted")
    assert "no torch here" in run.log_tail()


def test_a_trainer_that_cannot_be_opened_is_reported(run: RunDirectory) -> None:
    with pytest.raises(
        RunError, match=r"the trainer cannot be started: .*No such file or directory: '/no/such/program'"
    ):
        launch.start(run.path, command=["/no/such/program"])
    status = run.status()
    assert status is not None
    assert status.state == "failed"
    assert "No such file or directory" in status.exit_reason
    launch.start(run.path, resume=True, command=program(QUICK))
    wait_until(lambda: run.state() == "finished")


def test_a_starter_that_cannot_run_is_reported(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "python", lambda: "/no/python")
    with pytest.raises(RunError, match=r"the trainer cannot be started: .*/no/python"):
        launch.start(run.path)
    assert run.state() == "failed"


def test_a_run_that_is_not_there_is_refused(store: RunStore) -> None:
    with pytest.raises(RunError, match="run nothing is not in"):
        launch.start(store.runs_dir / "nothing")


@pytest.mark.parametrize(
    ("state", "resume", "message"),
    [
        ("finished", True, "is finished; fork it to train on"),
        ("finished", False, "is finished; fork it to train on"),
        ("stopped", False, "is stopped; resume it instead"),
        ("failed", False, "is failed; resume it instead"),
        ("interrupted", False, "is interrupted; resume it instead"),
    ],
)
def test_what_has_ended_is_resumed_or_forked(run: RunDirectory, state: str, resume: bool, message: str) -> None:
    write_status(run.path, Status(state=state, step=5))
    with pytest.raises(RunError, match=message):
        launch.start(run.path, resume=resume, command=program(QUICK))


def test_who_holds_a_run_for_a_moment_does_not_keep_it_from_its_start(run: RunDirectory) -> None:
    write_status(run.path, Status(state="interrupted"))
    taken = threading.Event()

    def reconcile() -> None:
        with run.lock():
            taken.set()
            time.sleep(0.3)

    holder = threading.Thread(target=reconcile)
    holder.start()
    taken.wait()
    launch.start(run.path, resume=True, command=program(QUICK))
    holder.join()
    status = run.status()
    assert status is not None
    assert status.launch_id


def test_a_run_that_a_process_holds_is_not_started(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moe_hub.launch.starting.BRIEFLY_S", 0.0)
    write_status(run.path, Status(state="interrupted"))
    with run.lock(), pytest.raises(RunError, match="is held by another process"):
        launch.start(run.path, resume=True, command=program(QUICK))


def test_a_resumed_run_keeps_its_step_and_forgets_old_requests(run: RunDirectory) -> None:
    gone = {**process_identity(), "pid": 2**22 - 1}
    write_status(run.path, Status(state="running", step=40, attempt=2, metrics={"train/loss": 1.0}, **gone))
    control.request(run.path, "stop")
    launch.start(run.path, resume=True, command=program("import time; time.sleep(30)"))
    status = run.status()
    assert status is not None
    assert (status.state, status.step, status.attempt, status.exit_reason) == ("starting", 40, 2, "")
    assert status.metrics == {"train/loss": 1.0}
    assert status.pid != gone["pid"]
    assert control.waiting(run.path) == []


@pytest.mark.parametrize(("resume", "flag"), [(False, "--adopt"), (True, "--resume")])
def test_the_trainer_is_told_its_run(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, resume: bool, flag: str
) -> None:
    opened: list[object] = []

    def open_nothing(command: object, *arguments: object, **more: object) -> str:
        opened.append(command)
        return ""

    monkeypatch.setattr(starting, "detach", open_nothing)
    if resume:
        write_status(run.path, Status(state="stopped"))
    launch.start(run.path, resume=resume)
    assert opened == [
        [sys.executable, "-m", "moe_hub.train", "--runs-dir", str(run.path.parent), flag, run.run_id]
    ]  # fmt: skip


def test_a_run_is_made_and_started_in_one(store: RunStore) -> None:
    config = load_config("basic_comparison")
    run = store.open(launch.launch_run(store.runs_dir, config, command=program(QUICK)))
    assert run.config() == config
    wait_until(lambda: run.state() == "finished")


def test_a_run_folder_with_any_characters_starts(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "my runs; $(touch x) 'é'")
    run = store.create(Config())
    launch.start(run.path, command=program(QUICK))
    wait_until(lambda: run.state() == "finished")
    assert [path.name for path in tmp_path.iterdir()] == [store.runs_dir.name]


def test_a_relative_runs_folder_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_id = launch.launch_run(Path("runs"), Config(), command=program(QUICK))
    wait_until(lambda: RunStore(Path("runs")).open(run_id).state() == "finished")


def test_what_killed_writers_left_is_removed_at_a_start(run: RunDirectory) -> None:
    old, new = run.path / ".status.json.1.ab.tmp", run.path / ".status.json.2.cd.tmp"
    request = run.path / "control" / ".0001.json.3.ef.tmp"
    for path in (old, new, request):
        path.touch()
    for path in (old, request):
        os.utime(path, (time.time() - 3600,) * 2)
    launch.start(run.path, command=program(QUICK))
    assert not old.exists()
    assert not request.exists()
    assert new.exists()


@pytest.mark.parametrize("executable", ["/usr/sbin/uwsgi", "/usr/sbin/httpd", "", None])
def test_a_web_server_that_is_the_executable_still_finds_python(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, executable: str | None
) -> None:
    command = program(QUICK)
    monkeypatch.setattr(sys, "executable", executable)
    launch.start(run.path, command=command)
    wait_until(lambda: run.state() == "finished")


def test_the_token_of_the_page_does_not_reach_a_trainer(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOE_HUB_TOKEN", "secret-of-the-page")
    monkeypatch.setenv("HF_TOKEN", "for-the-trainer")
    launch.start(run.path, command=program("import os; print(os.environ)"))
    wait_until(lambda: "for-the-trainer" in run.log_tail(100_000))
    assert "secret-of-the-page" not in run.log_tail(100_000)


def test_starting_takes_little_time(run: RunDirectory) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.thread_time()
    launch.start(run.path, command=program("pass"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    starter = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert time.thread_time() - begin < 0.1
    assert starter < 0.5
    wait_until(lambda: is_gone(pid_of(run)))
