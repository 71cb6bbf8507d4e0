"""Files larger than the memory that may be used, and jobs that are told to end: both in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

MB = 1_000_000
# The heap of the process is limited to what it has after its imports and 100 MB; a file that is held would not fit.
LIMITED = """
import os, re, resource, sys
from moe_hub.data.__main__ import main
from moe_hub.data import corpus, inspection
used = 1024 * int(re.search(r"VmData:\\s+(\\d+)", open("/proc/self/status").read())[1])
resource.setrlimit(resource.RLIMIT_DATA, (used + 100_000_000,) * 2)
sys.exit(main(sys.argv[1:]))
"""


def written(path: Path, size: int) -> Path:
    row = {"text": "a row of text that goes on for a while, as rows do " * 38}
    line = (json.dumps(row) + "\n" if path.suffix == ".jsonl" else row["text"] + "\n").encode()
    with path.open("wb") as file:
        for number in range(size // len(line)):
            file.write(line.replace(b"a row", b"%d row" % number, 1))
    return path


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["rows.jsonl", "text.txt"])
def test_a_file_larger_than_memory_is_prepared_and_inspected(name: str, tmp_path: Path) -> None:
    path = written(tmp_path / name, 130 * MB)
    environment = {**os.environ, "MOE_HUB_DATA": str(tmp_path), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    for command in ("prepare", "inspect"):
        # The plan of an epoch takes memory for each row of the model: rows of 2048 tokens, as large data is used with.
        options = ["--json-lines", "--set", "model.max_seq_len=2048"]
        arguments = [sys.executable, "-c", LIMITED, command, str(path), *options]
        run = subprocess.run(arguments, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-2000:]
        last = json.loads(run.stdout.splitlines()[-1])
        assert last.get("report", {"usable": True})["usable"], last


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_limit_is_one_that_a_held_file_meets(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", 130 * MB)
    code = LIMITED.replace("sys.exit(main(sys.argv[1:]))", "open(sys.argv[1], 'rb').read()")
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert "MemoryError" in run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", ["inspect", "prepare"])
def test_a_job_that_is_told_to_end_clears_away_what_it_began(command: str, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", 60 * MB)
    temporary, data = tmp_path / "tmp", tmp_path / "data"
    temporary.mkdir()
    environment = {**os.environ, "MOE_HUB_DATA": str(data), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-m", "moe_hub.data", command, str(path), "--json-lines"]
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "Tokenising" in line or (command == "inspect" and list(temporary.iterdir())):
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert list(temporary.iterdir()) == []
    left = list((data / "cache").glob("*")) if data.exists() else []
    assert [item.name for item in left if item.is_dir() and item.name != "files"] == []
