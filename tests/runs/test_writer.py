"""The metric writer: whole rows only, and nothing that goes wrong on disk reaches the trainer."""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_hub.runs.files import plain, to_json
from moe_hub.runs.writer import METRICS_FILE, MetricWriter


def rows(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / METRICS_FILE).read_text().splitlines()]


@contextlib.contextmanager
def disk_that_ends_at(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: the kernel writes what fits, then nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_row_holds_step_time_tokens_and_values(tmp_path: Path) -> None:
    with MetricWriter(tmp_path) as writer:
        writer.write(5, {"train/loss": 1.5, "expert/load": [[0.25, 0.75]]}, tokens=640, time=100.5)
        writer.write(6, {})
    first, second = rows(tmp_path)
    assert first == {"step": 5, "time": 100.5, "tokens": 640, "train/loss": 1.5, "expert/load": [[0.25, 0.75]]}
    assert list(first)[:3] == ["step", "time", "tokens"]
    assert abs(second["time"] - time.time()) < 60
    assert "attempt" not in first


def test_a_metric_cannot_take_the_place_of_step_or_time(tmp_path: Path) -> None:
    with MetricWriter(tmp_path) as writer:
        writer.write(7, {"step": 99, "time": 0.0, "tokens": -1}, tokens=3, time=2.0)
    assert rows(tmp_path) == [{"step": 7, "time": 2.0, "tokens": 3}]


def test_non_finite_values_are_text_and_every_line_is_strict_json(tmp_path: Path) -> None:
    values = {
        "a": math.nan,
        "b": math.inf,
        "c": -math.inf,
        "d": np.array([1.0, np.nan], np.float32),
        "e": [[np.inf]],
        "f": np.float64("nan"),
    }
    with MetricWriter(tmp_path) as writer:
        writer.write(1, values, time=0.0)

    def refuse(token: str) -> None:
        raise AssertionError(token)

    row = json.loads((tmp_path / METRICS_FILE).read_text(), parse_constant=refuse)
    assert {key: row[key] for key in values} == {
        "a": "NaN",
        "b": "Infinity",
        "c": "-Infinity",
        "d": [1.0, "NaN"],
        "e": [["Infinity"]],
        "f": "NaN",
    }


numbers = st.one_of(
    st.floats(), st.integers(-(2**53), 2**53), st.booleans(), st.none(), st.text(max_size=5), st.lists(st.floats())
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(max_size=10), st.one_of(numbers, st.dictionaries(st.text(max_size=3), numbers))))
def test_the_quick_json_says_what_the_plain_one_says(values: dict[str, Any]) -> None:
    assert json.loads(to_json(values)) == json.loads(json.dumps(plain(values)))


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int32", "int64", "bool"])
def test_arrays_of_any_kind_come_back_equal(kind: str) -> None:
    array = np.arange(12).reshape(3, 4).astype(kind)[:, ::2]  # not contiguous
    assert np.array_equal(np.array(json.loads(to_json({"a": array}))["a"], kind), array)
    assert json.loads(to_json({"a": array[0, 1]})) == {"a": array[0, 1].item()}
    assert json.loads(to_json({"a": np.array(array[0, 1])})) == {"a": array[0, 1].item()}


def test_float32_arrays_keep_every_bit_in_few_digits() -> None:
    array = np.random.default_rng(0).random(1000, np.float32)
    text = to_json({"a": array})
    assert np.array_equal(np.array(json.loads(text)["a"], np.float32), array)
    assert len(text) < 13 * len(array)


def test_a_value_that_is_none_of_these_is_a_type_error_and_leaves_no_row(tmp_path: Path) -> None:
    with MetricWriter(tmp_path) as writer:
        with pytest.raises(TypeError, match="object is not a number"):
            writer.write(1, {"a": object()})
        writer.write(2, {})
    assert [row["step"] for row in rows(tmp_path)] == [2]


def test_a_torn_last_line_is_ended_and_kept_apart(tmp_path: Path) -> None:
    file = tmp_path / METRICS_FILE
    file.write_bytes(b'{"step": 1, "time": 0, "tokens": 0}\n{"step": 2, "ti')
    with MetricWriter(tmp_path, attempt=1) as writer:
        writer.write(2, {"train/loss": 1.0}, time=0.0)
    lines = file.read_bytes().split(b"\n")
    assert lines[:2] == [b'{"step": 1, "time": 0, "tokens": 0}', b'{"step": 2, "ti']
    assert json.loads(lines[2])["attempt"] == 1
    assert lines[3:] == [b""]


def test_rows_that_a_full_disk_has_no_room_for_wait_and_none_is_lost(tmp_path: Path) -> None:
    with MetricWriter(tmp_path) as writer:
        writer.write(1, {"train/loss": 1.0}, time=0.0)
        size = (tmp_path / METRICS_FILE).stat().st_size
        with disk_that_ends_at(size + 10):
            writer.write(2, {"train/loss": 2.0})
            writer.write(3, {"train/loss": 3.0})
            assert (tmp_path / METRICS_FILE).stat().st_size == size
            assert writer.lost_rows == 2
            assert not writer.flush()
            assert writer.problem
        writer.write(4, {"train/loss": 4.0})
        assert (writer.lost_rows, writer.problem) == (0, "")
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4]


def test_rows_that_wait_are_written_at_the_end(tmp_path: Path) -> None:
    writer = MetricWriter(tmp_path)
    with disk_that_ends_at(10):
        writer.write(1, {})
    writer.close()
    assert writer.lost_rows == 0
    assert [row["step"] for row in rows(tmp_path)] == [1]


def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moe_hub.runs.writer.MOST_WAITING", 200)
    with MetricWriter(tmp_path) as writer:
        with disk_that_ends_at(0):
            for step in range(20):
                writer.write(step, {}, time=0.0)
            assert writer.lost_rows == 20
        writer.flush()
        kept = [row["step"] for row in rows(tmp_path)]
        assert kept == list(range(len(kept)))
        assert 0 < len(kept) < 20
        assert writer.lost_rows == 20 - len(kept)


def test_where_the_part_cannot_be_cut_off_the_next_row_begins_a_new_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, length: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "ftruncate", refuse)
    with MetricWriter(tmp_path) as writer:
        with disk_that_ends_at(10):
            writer.write(1, {}, time=0.0)
            writer.write(2, {})
            assert writer.lost_rows == 2
        writer.write(3, {})
    lines = (tmp_path / METRICS_FILE).read_bytes().split(b"\n")
    assert len(lines[0]) == 10
    assert json.loads(lines[1]) == {"step": 1, "time": 0.0, "tokens": 0}
    assert [json.loads(line)["step"] for line in lines[1:-1]] == [1, 2, 3]


def test_the_rows_of_a_folder_that_is_gone_wait_until_it_is_back(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    writer = MetricWriter(run_dir)
    writer.write(1, {})
    assert writer.lost_rows == 1
    run_dir.mkdir()
    writer.write(2, {})
    assert [row["step"] for row in rows(run_dir)] == [1, 2]
    shutil.rmtree(run_dir)
    writer.write(3, {})
    assert writer.lost_rows == 1
    run_dir.mkdir()
    writer.write(4, {})
    assert [row["step"] for row in rows(run_dir)] == [3, 4]
    writer.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_costs_rows(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        writer = MetricWriter(tmp_path)
        writer.write(1, {})
        assert writer.lost_rows == 1
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_in_the_place_of_the_file_costs_rows(tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).mkdir()
    writer = MetricWriter(tmp_path)
    writer.write(1, {})
    assert writer.lost_rows == 1
    writer.close()


def test_rows_after_the_end_are_counted_as_lost(tmp_path: Path) -> None:
    writer = MetricWriter(tmp_path)
    writer.close()
    writer.close()
    writer.write(1, {})
    assert writer.lost_rows == 1


def test_each_row_is_one_write_at_the_end(tmp_path: Path) -> None:
    """Two writers by mistake (the lock on the run keeps them apart) would still not mix their rows."""
    with MetricWriter(tmp_path) as first, MetricWriter(tmp_path) as second:
        for step in range(50):
            (first, second)[step % 2].write(step, {"a": [step] * 2000})
    assert [row["a"][0] for row in rows(tmp_path)] == list(range(50))


@pytest.mark.parametrize(("given", "expected"), [(0, 4), (2, 4), (3, 3), (7, 7)])
def test_an_attempt_older_than_the_file_is_raised(tmp_path: Path, given: int, expected: int) -> None:
    """After a power loss the status, and with it the count of attempts, may be gone; readers drop older attempts."""
    newest = {"step": 9, "time": 0, "tokens": 0, "attempt": 3, "a": [0.5] * 100_000}
    text = '{"step": 1, "time": 0, "tokens": 0}\n' + json.dumps(newest) + '\nnot json\n{"step": 10, "attempt": 5'
    (tmp_path / METRICS_FILE).write_text(text)
    with MetricWriter(tmp_path, attempt=given) as writer:
        assert writer.attempt == expected


KILLED = """
import sys
from pathlib import Path
from moe_hub.runs.writer import MetricWriter
writer = MetricWriter(Path(sys.argv[1]))
step = 0
while True:
    writer.write(step, {"a": [0.5] * 200})
    step += 1
    if step % 10 == 0:
        print(step, flush=True)
"""


def test_a_kill_loses_no_written_row(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    written = [int(process.stdout.readline()) for _ in range(20)][-1]
    process.kill()
    process.wait()
    process.stdout.close()
    *whole, last = (tmp_path / METRICS_FILE).read_bytes().split(b"\n")
    steps = [json.loads(line)["step"] for line in whole]
    assert steps == list(range(len(steps)))
    assert len(steps) >= written
    assert len(last) == 0


def test_a_row_of_ten_scalars_costs_20_us(tmp_path: Path, cpu_s: Callable[..., float]) -> None:
    values = {f"group/metric_{index}": 0.123456 * index for index in range(10)}
    with MetricWriter(tmp_path) as writer:
        took = cpu_s(lambda: [writer.write(step, values) for step in range(1000)])
    assert took / 1000 < 20e-6
