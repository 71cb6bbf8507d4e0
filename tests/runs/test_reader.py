"""The reader against a slow reference, and what happens to a file while it is read."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_hub.runs import column_cache, reader
from moe_hub.runs.history import RunHistory
from moe_hub.runs.live import LiveReader, sample
from moe_hub.runs.reader import MetricReader
from moe_hub.runs.writer import MetricWriter

Rows = dict[int, dict[str, Any]]


def reference(content: bytes) -> tuple[Rows, int]:
    """Rows by step, and bad lines: the rules of the contract one line at a time, with the standard library."""
    rows: Rows = {}
    attempt = bad = 0
    for line in content[: content.rfind(b"\n") + 1].split(b"\n"):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        counts = [row.get("step"), row.get("attempt", 0)] if isinstance(row, dict) else [None]
        if not all(type(count) is int and 0 <= count < 2**63 for count in counts):
            bad += 1
            continue
        step, its_attempt = counts
        if its_attempt < attempt:
            continue
        if its_attempt > attempt or (rows and step < max(rows)):
            rows = {known: values for known, values in rows.items() if known < step}
        attempt = its_attempt
        rows[step] = {**rows.get(step, {}), **row}
    return rows, bad


def scalars(rows: Rows, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of a metric that is a number wherever it stands."""
    found = [(step, float(rows[step][name])) for step in sorted(rows) if name in rows[step]]
    return [step for step, _ in found], [value for _, value in found]


def assert_equals_reference(history: RunHistory, content: bytes, names: tuple[str, ...] = ("a", "b")) -> None:
    rows, _ = reference(content)
    for name in names:
        steps, values = history.series(name)
        expected_steps, expected = scalars(rows, name)
        assert steps.tolist() == expected_steps
        np.testing.assert_array_equal(values, expected)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**70), 2**70),
    st.sampled_from(["NaN", "Infinity", "-Infinity"]),
)  # fmt: skip
rows_of_any_order = st.lists(
    st.fixed_dictionaries(
        {"step": st.integers(0, 12)},
        optional={"attempt": st.integers(0, 2), "a": numbers, "b": numbers, "time": numbers},
    ),
    max_size=30,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(rows=rows_of_any_order, cuts=st.lists(st.integers(0, 2000), max_size=4))
def test_any_rows_in_any_pieces_equal_the_reference(
    rows: list[dict[str, Any]], cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    content = lines(rows)
    follower = MetricReader(path)
    for end in [*sorted(cuts), len(content)]:
        path.write_bytes(content[:end])
        os.utime(path, ns=(end, end))
        follower.poll()
        assert_equals_reference(follower.history(), content[:end])


def test_random_truncations_and_corrupt_bytes_cost_only_their_lines(run_dir: Path) -> None:
    rng = random.Random(7)
    path = run_dir / "metrics.jsonl"
    clean = lines([{"step": step, "a": step / 7, "b": -step} for step in range(60)])
    for _ in range(300):
        content = bytearray(clean[: rng.randrange(len(clean))])
        for _ in range(rng.randrange(6)):
            if content:
                content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(bytes(content))
        follower = MetricReader(path)
        follower.poll()
        rows, bad = reference(bytes(content))
        usable = {step: row for step, row in rows.items() if _numeric(row.get("a"))}
        steps, values = follower.history().series("a")
        assert steps.tolist() == sorted(usable)
        np.testing.assert_array_equal(values, [float(usable[step]["a"]) for step in sorted(usable)])
        assert follower.bad_lines == bad


def _numeric(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def test_an_unfinished_last_line_waits_for_its_end(run_dir: Path) -> None:
    path = run_dir / "metrics.jsonl"
    follower = MetricReader(run_dir)
    path.write_bytes(b'{"step": 1, "a": 1}\n{"step": 2, "a"')
    assert follower.poll()
    assert follower.history().series("a")[0].tolist() == [1]
    with path.open("ab") as file:
        file.write(b": 2}\n")
    assert follower.poll()
    assert follower.history().series("a")[0].tolist() == [1, 2]
    assert follower.bad_lines == 0


def test_a_poll_with_nothing_new_opens_no_file_and_costs_less_than_a_tenth_of_a_millisecond(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, cpu_s: Callable[..., float]
) -> None:
    (run_dir / "metrics.jsonl").write_bytes(lines([{"step": step, "a": 1.0} for step in range(1000)]))
    follower = MetricReader(run_dir)
    assert follower.poll()
    before = follower.history()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a file was opened")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        patch.setattr(Path, "read_bytes", refuse)
        patch.setattr(Path, "read_text", refuse)
        found: list[bool] = []
        assert cpu_s(lambda: found.extend(follower.poll() for _ in range(1000))) < 0.1
        assert not any(found)
        assert follower.history() is before


def test_a_replaced_file_begins_again(run_dir: Path) -> None:
    path = run_dir / "metrics.jsonl"
    path.write_bytes(lines([{"step": 1, "a": 1.0}, {"step": 2, "a": 2.0}]))
    follower = MetricReader(run_dir)
    follower.poll()
    old = follower.history()
    other = run_dir / "other"
    other.write_bytes(lines([{"step": 5, "a": 5.0}, {"step": 6, "a": 6.0}, {"step": 7, "a": 6.0}]))
    other.replace(path)
    assert follower.poll()
    assert follower.history().series("a")[0].tolist() == [5, 6, 7]
    path.write_bytes(lines([{"step": 9, "a": 9.0}]))  # shorter, same inode
    assert follower.poll()
    assert follower.history().series("a")[0].tolist() == [9]
    assert follower.history().version != old.version
    assert old.series("a")[0].tolist() == [1, 2]


def test_other_bytes_of_the_same_length_in_place_are_seen(run_dir: Path) -> None:
    path = run_dir / "metrics.jsonl"
    path.write_bytes(lines([{"step": 1, "a": 1.0}]))
    follower = MetricReader(run_dir)
    follower.poll()
    with path.open("r+b") as file:
        file.write(lines([{"step": 3, "a": 1.0}]) + lines([{"step": 4, "a": 2.0}]))
    assert follower.poll()
    assert follower.history().series("a")[0].tolist() == [3, 4]


def test_a_missing_file_or_folder_is_an_empty_history(tmp_path: Path) -> None:
    follower = MetricReader(tmp_path / "nothing")
    assert not follower.poll()
    assert follower.history().names() == set()


def test_a_resume_supersedes_and_keeps_the_old_attempt_aside(run_dir: Path) -> None:
    with MetricWriter(run_dir) as writer:
        for step in range(10):
            writer.write(step, {"a": float(step), "theta": [[float(step)]]}, tokens=step * 10, time=100.0 + step)
    follower = MetricReader(run_dir)
    follower.poll()
    old = follower.history()
    with MetricWriter(run_dir, attempt=1) as writer:
        writer.write(6, {"a": -6.0, "theta": [[-6.0]]}, tokens=60, time=500.0)
    follower.poll()
    history = follower.history()
    assert history.series("a")[1].tolist() == [0, 1, 2, 3, 4, 5, -6]
    assert history.arrays("theta")[1][:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, -6]
    [(x, values)] = history.abandoned("a", "tokens")
    assert (x.tolist(), values.tolist()) == ([60, 70, 80, 90], [6, 7, 8, 9])
    assert history.abandoned("a", "time")[0][0].tolist() == [6, 7, 8, 9]
    assert old.series("a")[1].tolist() == list(range(10)), "what was handed out changed"


def test_nothing_that_was_handed_out_changes_while_rows_come_in(run_dir: Path) -> None:
    follower = MetricReader(run_dir)
    kept: list[tuple[RunHistory, bytes]] = []
    content = b""
    rng = random.Random(1)
    step = 0
    for _ in range(60):
        step = max(0, step + rng.choice([-3, 1, 1, 2, 5]))
        content += lines([{"step": step, "a": rng.random(), "b": rng.random()}])
        (run_dir / "metrics.jsonl").write_bytes(content)
        follower.poll()
        kept.append((follower.history(), content))
    for history, then in kept:
        assert_equals_reference(history, then)
    with pytest.raises(ValueError, match="read-only"):
        kept[-1][0].series("a")[1][0] = 1.0


def test_rows_of_one_step_are_one_row(run_dir: Path) -> None:
    follower = MetricReader(run_dir)
    path = run_dir / "metrics.jsonl"
    for piece in ({"step": 1, "a": 1.0}, {"step": 1, "b": 2.0}, {"step": 1, "a": 3.0}, {"step": 2, "b": 4.0}):
        with path.open("ab") as file:
            file.write(lines([piece]))
        follower.poll()
    history = follower.history()
    assert history.series("a")[1].tolist() == [3.0]
    assert history.series("b")[1].tolist() == [2.0, 4.0]
    assert history.total_rows == 2


def test_values_that_are_no_numbers_and_arrays_of_another_shape(run_dir: Path) -> None:
    rows = [
        {"step": 0, "a": "text", "m": [[1, 2], [3, 4]]},
        {"step": 1, "a": None, "m": [["NaN", 2], [3, "Infinity"]]},
        {"step": 2, "a": {"x": 1}, "m": [1, 2]},
        {"step": 3, "a": 5, "m": [[5, 6], [7]]},
        {"step": 4, "a": "-Infinity", "m": [[5, 6], [7, 8]]},
    ]
    (run_dir / "metrics.jsonl").write_bytes(lines(rows))
    follower = MetricReader(run_dir)
    follower.poll()
    steps, values = follower.history().series("a")
    assert (steps.tolist(), values.tolist()) == ([3, 4], [5.0, -math.inf])
    steps, arrays = follower.history().arrays("m")
    assert steps.tolist() == [0, 1, 4]
    np.testing.assert_array_equal(arrays[1], [[np.nan, 2], [3, np.inf]])
    assert follower.history().series("m")[1].size == 0


def test_a_bad_line_in_the_middle_costs_no_other(run_dir: Path) -> None:
    body = lines([{"step": step, "a": float(step)} for step in range(5)])
    (run_dir / "metrics.jsonl").write_bytes(body + b'{"step": 5, "a": NaN}\n{"step": 6, \xff\n[1]\n{"a": 1}\n' + lines([
        {"step": 7, "a": 7.0}]))  # fmt: skip
    follower = MetricReader(run_dir)
    follower.poll()
    assert follower.history().series("a")[0].tolist() == [0, 1, 2, 3, 4, 5, 7]
    assert follower.bad_lines == 3


def test_config_label_and_status_are_those_of_now(run_dir: Path) -> None:
    (run_dir / "metrics.jsonl").write_bytes(lines([{"step": 1, "a": 1.0}]))
    follower = MetricReader(run_dir)
    follower.poll()
    first = follower.history()
    (run_dir / "config.yaml").write_text("name: probe\n")
    (run_dir / "notes.json").write_text('{"label": "my run"}')
    second = follower.history()
    assert (second.config["name"], second.label) == ("probe", "my run")
    assert second.version != first.version
    (run_dir / "status.json").write_text('{"state": "running", "step": 1}')
    third = follower.history()
    assert third.status is not None
    assert third.version == second.version, "a heartbeat must not redraw figures"


@pytest.fixture
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "CACHE_FROM", 1000)
    monkeypatch.setattr(column_cache, "_LEAST_FREE", 0)


def many(first: int, last: int) -> list[dict[str, Any]]:
    return [
        {"step": step, "time": step / 3, "tokens": step, "a": step / 7, "m": [[step, 1.5]]}
        | ({"b": 1} if step % 5 else {})
        for step in range(first, last)
    ]  # fmt: skip


def assert_same(one: RunHistory, other: RunHistory) -> None:
    assert one.names() == other.names()
    for name in one.names():
        for left, right in zip(one.arrays(name), other.arrays(name), strict=True):
            np.testing.assert_array_equal(left, right)
        for axis in ("step", "tokens", "time"):
            np.testing.assert_array_equal(one.x_values(name, axis), other.x_values(name, axis))
            for (x, y), (u, v) in zip(one.abandoned(name, axis), other.abandoned(name, axis), strict=True):
                np.testing.assert_array_equal(x, u)
                np.testing.assert_array_equal(y, v)


@pytest.mark.usefixtures("small_cache")
def test_the_cache_gives_what_the_file_gives(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run_dir / "metrics.jsonl"
    path.write_bytes(lines(many(0, 60)) + lines([{**row, "attempt": 1} for row in many(50, 80)]))
    MetricReader(run_dir).poll()
    assert column_cache.cache_path(path).exists()
    with path.open("ab") as file:
        file.write(lines([{**row, "attempt": 1} for row in many(70, 90)]))
    whole = MetricReader(run_dir, cache=False)
    whole.poll()
    parsed: list[bytes] = []
    monkeypatch.setattr(reader, "parse_lines", lambda text, real=reader.parse_lines: parsed.append(text) or real(text))
    warm = MetricReader(run_dir)
    assert warm.poll()
    assert_same(warm.history(), whole.history())
    assert len(warm.history().abandoned("a", "step")) == 2
    assert sum(map(len, parsed)) < path.stat().st_size / 2, "the cached part was parsed again"


@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize("damage", ["cut", "flip header", "empty", "other file", "text"])
def test_a_cache_that_does_not_fit_is_left_alone(run_dir: Path, damage: str) -> None:
    path = run_dir / "metrics.jsonl"
    path.write_bytes(lines(many(0, 100)))
    MetricReader(run_dir).poll()
    cache = column_cache.cache_path(path)
    content = cache.read_bytes()
    broken = {
        "cut": content[: len(content) // 2], "flip header": b"x" + content[1:], "empty": b"", "text": b"{}\n",
    }  # fmt: skip
    if damage == "other file":
        path.write_bytes(lines(many(1000, 1100)))
    else:
        cache.write_bytes(broken[damage])
    follower, whole = MetricReader(run_dir), MetricReader(run_dir, cache=False)
    follower.poll()
    whole.poll()
    assert_same(follower.history(), whole.history())


@pytest.mark.usefixtures("small_cache")
def test_a_folder_that_cannot_be_written_does_without_a_cache(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run_dir / "metrics.jsonl").write_bytes(lines(many(0, 100)))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(column_cache.os, "replace", full)
    follower = MetricReader(run_dir)
    assert follower.poll()
    assert follower.history().total_rows == 100
    assert [path.name for path in run_dir.iterdir()] == ["metrics.jsonl"]


def test_a_long_file_shows_samples_at_once_and_then_all(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run_dir / "metrics.jsonl").write_bytes(lines(many(0, 20_000)))
    monkeypatch.setattr("moe_hub.runs.live.LONG", 1000)
    live = LiveReader(run_dir, cache=False)
    first = live.history()
    if not first.complete:  # the thread may have been quicker
        assert 500 < len(first.series("a")[0]) < 20_000
        assert first.series("a")[0][-1] == 19_999
        assert abs(first.total_rows - 20_000) < 1000
    live.wait()
    last = live.history()
    assert last.complete
    assert last.series("a")[0].tolist() == list(range(20_000))
    assert last.version != first.version or first.complete


def test_samples_are_rows_of_the_file(run_dir: Path) -> None:
    (run_dir / "metrics.jsonl").write_bytes(lines(many(0, 5000)))
    steps, values = sample(run_dir / "metrics.jsonl").series("a")
    np.testing.assert_array_equal(values, steps / 7)
    assert steps[0] == 0
    assert steps[-1] == 4999


def test_the_speed_and_memory_of_a_long_file(run_dir: Path, cpu_s: Callable[..., float]) -> None:
    """One twentieth of the size that the product must carry; the bounds are three times what two cores took."""
    count = 50_000
    (run_dir / "metrics.jsonl").write_bytes(b"".join(
        b'{"step":%d,"time":1700000000.25,"tokens":%d,"a":2.718281828,"b":3.14159,"c":0.001,"d":1.0,"e":2.0,"f":3.0,'
        b'"g":4.0}\n' % (step, step) for step in range(count)
    ))  # fmt: skip
    assert cpu_s(lambda: MetricReader(run_dir).poll(), repeats=3) < 0.6
    follower = MetricReader(run_dir)
    follower.poll()
    assert follower.nbytes < 1.3 * count * 8 * 10
    assert len(follower.history().series("g")[1]) == count
