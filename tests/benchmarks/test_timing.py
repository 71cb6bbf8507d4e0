"""Turns, ratios and intervals; and that CPU time is what is measured."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import __main__ as program
from benchmarks.report import Goal, PartResult, Table
from benchmarks.timing import Block, Built, Contender, Timings, _take_turns, _time_block, measure, median_interval


def busy() -> None:
    end = time.process_time() + 0.02
    while time.process_time() < end:
        pass


def build_sleeper(seconds: float) -> Built:
    return Built(lambda: time.sleep(seconds), {"seconds": seconds}, {"name": lambda: "sleeper"})


def test_interval_has_the_ranks_of_the_sign_test() -> None:
    # Conover, Practical Nonparametric Statistics: for n = 20 the 95 % interval of the median is from rank 6 to 15.
    assert median_interval([float(value) for value in range(1, 21)]) == (6.0, 15.0)
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert median_interval([7.0]) == (7.0, 7.0)


def test_sleeping_costs_no_cpu_time_and_work_does() -> None:
    asleep, awake = _time_block(lambda: time.sleep(0.05), 2), _time_block(busy, 3)
    assert asleep.wall_s > 0.045
    assert asleep.cpu_s < 0.01
    assert 0.015 < awake.cpu_s < 0.2


def test_ratio_is_taken_round_by_round() -> None:
    """A neighbour that slows whole rounds down changes both sides of a pair, and so no ratio."""
    noise = [1.0, 5.0, 1.0, 3.0]
    timings = Timings({"a": [2 * n for n in noise], "b": noise}, {}, {}, [])
    ratio = timings.ratio("a", "b")
    assert (ratio.median, ratio.low, ratio.high, ratio.of_minima) == (2.0, 2.0, 2.0, 2.0)


def test_contenders_take_turns_in_rotating_order() -> None:
    order: list[str] = []

    def worker(*names: str) -> SimpleNamespace:
        return SimpleNamespace(variants=names, run=lambda name, steps: order.append(name) or Block(1.0, 1.0))

    timings = Timings({}, {}, {}, [])
    _take_turns([worker("a"), worker("b", "c")], timings, 3, 1, time.monotonic() + 60)
    assert "".join(order) == "abcbcacab"
    assert all(len(values) == 3 for values in timings.cpu_s.values())


def test_a_spent_budget_leaves_three_rounds() -> None:
    worker = SimpleNamespace(variants=["a"], run=lambda name, steps: Block(1.0, 1.0))
    timings = Timings({}, {}, {}, [])
    _take_turns([worker], timings, 50, 1, time.monotonic() - 1)
    assert len(timings.cpu_s["a"]) == 3


@pytest.mark.training
def test_a_worker_builds_measures_answers_and_ends() -> None:
    contenders = [Contender("long", f"{__name__}:build_sleeper", {"seconds": 0.02})]
    timings = measure(contenders, rounds=3, steps=1, calls=("name",), repeats=2)
    assert len(timings.cpu_s["long"]) == 6
    assert timings.facts["long"] == {"seconds": 0.02}
    assert timings.results["long"] == {"name": "sleeper"}
    assert min(timings.wall_s["long"]) > 0.015


def test_a_missed_goal_says_by_how_much() -> None:
    assert Goal("x", 4.0, 5.0, "at least").line() == "MISSED by 1: x: 4, goal at least 5"
    assert Goal("x", 4.0, 5.0, "at most", 3.5, 4.5).line() == "met: x: 4 [3.5, 4.5], goal at most 5"


def test_the_command_prints_a_table_and_writes_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table("Steps", ("step", "ratio"), [("a", "2.0x")])
    part = SimpleNamespace(run=lambda options: PartResult([table], [Goal("a", 2.0, 3.0, "at least")], ["noisy"], {}))
    monkeypatch.setattr(program, "importlib", SimpleNamespace(import_module=lambda name: part))
    assert program.main(["--only", "step", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "| a    | 2.0x  |" in printed
    assert "MISSED by 1" in printed
    (path,) = tmp_path.glob("*.json")
    record = json.loads(path.read_text())
    assert record["parts"]["step"]["goals"][0]["met"] is False
    assert record["machine"]["cores"] >= 1


def test_a_broken_part_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(name: str) -> SimpleNamespace:
        if name.endswith("step"):
            raise RuntimeError("worker ended")
        return SimpleNamespace(run=lambda options: PartResult(notes=["fine"]))

    monkeypatch.setattr(program, "importlib", SimpleNamespace(import_module=load))
    assert program.main(["--only", "step", "peak", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "FAILED: RuntimeError: worker ended" in printed
    assert "Note: fine" in printed
    (path,) = tmp_path.glob("*.json")
    assert json.loads(path.read_text())["parts"]["step"]["error"] == "RuntimeError: worker ended"
