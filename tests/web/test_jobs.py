"""Jobs: processes that stream through a file, can be stopped, are limited in number, and end with the server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import wait_for

from moe_hub.errors import RunError
from moe_hub.workbench.jobs import Jobs

pytestmark = pytest.mark.slow

SLOW = "import time, sys\nfor n in range(1000):\n    print(n, flush=True)\n    time.sleep(0.02)\n"
DEAF = (
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(60)\n"
)


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """Jobs whose modules are scripts in a folder of the test."""
    for name, code in {
        "slow": SLOW,
        "deaf": DEAF,
        "echo": "import sys; print(sys.stdin.read().upper(), sys.argv[1:])",
        "broken": "import sys; print('error: no such checkpoint', file=sys.stderr); sys.exit(2)",
    }.items():
        (tmp_path / f"job_{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("moe_hub.workbench.jobs.PATIENCE_S", 0.3)
    jobs = Jobs(tmp_path / "data" / ".background" / "jobs")
    yield jobs
    jobs.stop_all()


def read_all(jobs: Jobs, job_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = wait_for(
        lambda: (found := jobs.read(job_id, 0))["state"] != "running" and found, timeout_s=30
    )
    return answer


def test_output_comes_piece_by_piece_in_whole_lines(jobs: Jobs) -> None:
    job_id = jobs.start("job_slow", [])
    first = wait_for(lambda: (found := jobs.read(job_id, 0))["text"] and found)
    assert first["state"] == "running"
    assert first["text"].endswith("\n")
    second = wait_for(lambda: (found := jobs.read(job_id, first["offset"]))["text"] and found)
    assert int(second["text"].split()[0]) == int(first["text"].split()[-1]) + 1


def test_input_and_arguments_reach_it_without_a_shell(jobs: Jobs) -> None:
    answer = read_all(jobs, jobs.start("job_echo", ["$(touch x)", "; ls"], stdin="héllo\n--prompt"))
    assert answer["state"] == "done"
    assert "HÉLLO\n--PROMPT" in answer["text"]
    assert "['$(touch x)', '; ls']" in answer["text"]


def test_a_failure_gives_its_last_line(jobs: Jobs) -> None:
    answer = read_all(jobs, jobs.start("job_broken", []))
    assert (answer["state"], answer["error"]) == ("failed", "no such checkpoint")


@pytest.mark.parametrize("module", ["job_slow", "job_deaf"])
def test_stop_ends_it_even_where_it_does_not_listen(jobs: Jobs, module: str) -> None:
    job_id = jobs.start(module, [])
    wait_for(lambda: jobs.read(job_id, 0)["text"])
    jobs.stop(job_id)
    assert read_all(jobs, job_id)["state"] == "stopped"
    jobs.stop(job_id)


def test_too_many_at_once_are_refused_and_unknown_ones_named(jobs: Jobs) -> None:
    started = [jobs.start("job_slow", []) for _ in range(2)]
    with pytest.raises(RunError, match="stop one"):
        jobs.start("job_slow", [])
    jobs.stop(started[0])
    read_all(jobs, started[0])
    jobs.start("job_echo", [])
    with pytest.raises(RunError, match="not known"):
        jobs.read("0" * 16, 0)
    for job_id in ("../../etc", "", "..", "0" * 15 + "/", "\0" * 16):
        with pytest.raises(RunError, match="not known"):
            jobs.read(job_id, 0)


def test_all_end_with_the_server_and_their_folder_is_private(jobs: Jobs) -> None:
    job_id = jobs.start("job_slow", [])
    process = psutil.Process(jobs._job(job_id).process.pid)
    assert jobs.folder.stat().st_mode & 0o777 == 0o700
    jobs.stop_all()
    wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def test_another_worker_reads_stops_and_counts_it(jobs: Jobs) -> None:
    other = Jobs(jobs.folder)
    job_id = jobs.start("job_slow", [])
    text = wait_for(lambda: other.read(job_id, 0)["text"])
    assert text.startswith("0\n")
    jobs.start("job_slow", [])
    with pytest.raises(RunError, match="stop one"):
        other.start("job_echo", [])
    other.stop(job_id)
    assert read_all(jobs, job_id)["state"] == "stopped"
    broken = other.start("job_broken", [])
    assert read_all(jobs, broken)["error"] == "no such checkpoint"


def test_jobs_of_a_server_that_was_killed_end_when_the_next_is_asked(jobs: Jobs, tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(
        "import os, sys, time\nfrom pathlib import Path\nfrom moe_hub.workbench.jobs import Jobs\n"
        "print(Jobs(Path(sys.argv[1])).start('job_deaf', []), flush=True)\ntime.sleep(60)\n"
    )
    server = subprocess.Popen([sys.executable, str(script), str(jobs.folder)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    job_id = server.stdout.readline().strip()
    wait_for(lambda: jobs.read(job_id, 0)["text"])
    process = psutil.Process(jobs._job(job_id).process.pid)
    server.kill()
    server.wait()
    server.stdout.close()
    assert process.is_running()
    jobs.start("job_echo", [])
    wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    assert jobs.read(job_id, 0)["state"] == "stopped"


def test_what_opens_the_page_stays_with_the_server(jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOE_HUB_TOKEN", "the-secret-token")
    (tmp_path / "job_env.py").write_text("import os; print(dict(os.environ))")
    assert "the-secret-token" not in read_all(jobs, jobs.start("job_env", []))["text"]
