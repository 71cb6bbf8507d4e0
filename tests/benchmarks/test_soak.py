"""The soak at half a minute, and its numbers on made series."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.made_runs import new_run
from benchmarks.soak import Period, Seen, _compare, measure, report
from moe_hub.runs.writer import MetricWriter


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.training
def test_half_a_minute_of_polling(tmp_path: Path, playwright: Any) -> None:
    begin = time.time()
    seen = measure(tmp_path, minutes=0.4, clients=8, on_s=8, off_s=6, driver=playwright)
    print(report(seen, 8).text())
    assert seen.problems == []
    assert seen.news > 5
    assert len(seen.waits_s) > 40
    assert seen.rows > 5
    assert seen.drawn > 2
    assert len(seen.wall_ratios) >= 1
    assert seen.heap_mb[-1] - seen.heap_mb[0] <= 20
    assert seen.server_mb[-1] - seen.server_mb[0] <= 50
    assert time.time() - begin < 250


@pytest.mark.parametrize(("slower", "met"), [(1.0, True), (1.03, True), (1.2, False)])
def test_periods_with_clients_are_compared_with_those_without(slower: float, met: bool, tmp_path: Path) -> None:
    run = new_run(tmp_path / "runs", "made")
    periods = [Period(index % 2 == 0, 100.0 * index, 100.0 * (index + 1)) for index in range(12)]
    step, active, cpu = 0, 0.0, 0.0
    with MetricWriter(run.path) as writer:
        for second in range(1200):
            factor = (slower if second // 100 % 2 == 0 else 1.0) * (1 + second / 1200)  # a machine that gets busier
            step, active, cpu = step + 10, active + 0.1 * 10 * factor, cpu + 0.08 * 10
            writer.write(step, {"time/active_s": active, "time/cpu_s": cpu}, time=float(second))
    seen = Seen(heap_mb=[20.0, 21.0], server_mb=[90.0, 141.0], browser_mb=[1.0], load=[1.0], minutes=1, waits_s=[0.05])
    _compare(seen, run, periods)
    assert seen.wall_ratios == pytest.approx([slower] * 5, rel=1e-3)
    assert seen.cpu_ratios == pytest.approx([1.0] * 5)
    goals = {goal.text: goal.met for goal in report(seen, 50).goals}
    assert goals["training with 50 clients, wall time a step, % slower"] == met
    assert goals["browser heap grows by, MB"]
    assert not goals["server grows by, MB"]
