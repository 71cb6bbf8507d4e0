"""`python -m benchmarks.soak [--minutes 60]`: an hour of live polling beside one training run, on this machine alone.

A real trainer, the real server, one real browser tab on the live figure all the time, and 50 clients at 1 Hz that come
and go: their polls are timed, the training's steps with them are compared with those before and after in the same run,
and the memory of tab and server is followed. Every fifth minute the tab goes through all figures and back. Exit code 1
where a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.dashboard import HOST, Dashboard, browser, browser_processes, open_page, until
from benchmarks.findings import percentile
from benchmarks.kills import write
from benchmarks.polling_clients import PollingClients
from benchmarks.report import Goal, PartResult, Table
from benchmarks.timing import median_interval
from moe_hub import launch
from moe_hub.config import load_config
from moe_hub.runs.reader import MetricReader
from moe_hub.runs.status import current_state
from moe_hub.runs.store import RunDirectory, RunStore

FIGURE = "training-loss"
ENDLESS = (
    "name=soak", "train.max_steps=10000000", "train.threads=1", "train.log_every=2", "train.eval_every=10000000",
    "train.checkpoint_every=10000000", "data.num_train_samples=5000", "data.num_eval_samples=100",
)  # fmt: skip  # an evaluation, longer than the effect that is looked for, would fall into one period by chance
TOUR_EVERY_S = 300.0
PERIOD_S = 15.0
SAMPLE_EVERY_S = 60.0
EDGE_S = 2.0  # of a period, at each end: what began under the other regime
SETTLE_S = 20.0  # of the tab and the server, before the first measure


@dataclass(frozen=True)
class Period:
    """With or without the clients, from `begin` to `end` (unix s); one in which the tab toured is not compared."""

    polled: bool
    begin: float
    end: float
    toured: bool = False


@dataclass
class Seen:
    """What was measured: heap of the tab after a collection, memory of the server and of the browser, all in MB."""

    heap_mb: list[float] = field(default_factory=list)
    server_mb: list[float] = field(default_factory=list)
    browser_mb: list[float] = field(default_factory=list)
    server_cpu_s: float = 0.0
    minutes: float = 0.0
    rows: int = 0
    drawn: int = 0
    waits_s: list[float] = field(default_factory=list)
    news: int = 0
    problems: list[str] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    wall_ratios: list[float] = field(default_factory=list)
    cpu_ratios: list[float] = field(default_factory=list)


def measure(
    folder: Path, minutes: float, clients: int, *, on_s: float = PERIOD_S, off_s: float = PERIOD_S, driver: Any = None
) -> Seen:
    """Trains, polls and looks on for so long; the trainer, the server and the browser end with it.

    `driver` is a Playwright that runs already, of which a process has one only.
    """
    os.environ["MOE_HUB_DATA"] = str(folder / "data")
    run_id = launch.launch_run(folder / "runs", load_config(preset="geometric_lambda", overrides=ENDLESS))
    run = RunStore(folder / "runs").open(run_id)
    try:
        reader = MetricReader(run.path, cache=False)
        until(lambda: reader.poll() and len(reader.history().snapshot.steps) > 3, 240)
        with Dashboard(folder / "runs", folder / "data") as site, browser(driver) as tabs:
            page = open_page(tabs, site.address, f"run={run_id}&figure={FIGURE}")
            until(lambda: page.evaluate(f"() => Number({HOST}.dataset.drawn || 0)"))
            pollers = PollingClients(site.port, run_id, FIGURE, clients)
            try:
                seen, periods = _soak(site, page, pollers, minutes, on_s, off_s)
            finally:
                pollers.close()
            seen.waits_s, seen.news, seen.problems = pollers.waits_s, pollers.news, pollers.problems
        assert current_state(run.path) == "running", run.log_tail()
    finally:
        launch.escalate_stop(run.path, patience_s=10)
    _compare(seen, run, periods)
    return seen


def _soak(
    site: Dashboard, page: Any, pollers: PollingClients, minutes: float, on_s: float, off_s: float
) -> tuple[Seen, list[Period]]:
    seen, periods = Seen(minutes=minutes), []
    protocol = page.context.new_cdp_session(page)
    pollers.on.set()
    page.wait_for_timeout(1e3 * min(SETTLE_S, 15 * minutes))
    begin = time.time()
    next_sample, next_tour = begin, begin + TOUR_EVERY_S
    cpu = site.cpu_s()
    drawn = int(page.evaluate(f"() => Number({HOST}.dataset.drawn)"))
    while (now := time.time()) < begin + 60 * minutes:
        polled, toured = len(periods) % 2 == 0, False
        (pollers.on.set if polled else pollers.on.clear)()
        period_end = now + (on_s if polled else off_s)
        while (now := time.time()) < period_end:
            if now >= next_tour and polled:
                _tour(page)
                toured = True
                next_tour += TOUR_EVERY_S
            if now >= next_sample:
                _sample(seen, site, page, protocol)
                next_sample += min(SAMPLE_EVERY_S, 10 * minutes)
            page.wait_for_timeout(500)
        periods.append(Period(polled, period_end - (on_s if polled else off_s), time.time(), toured))
    _sample(seen, site, page, protocol)
    seen.server_cpu_s = site.cpu_s() - cpu
    seen.drawn = int(page.evaluate(f"() => Number({HOST}.dataset.drawn)")) - drawn
    return seen, periods


def _tour(page: Any) -> None:
    """Through every figure that the run offers, and back."""
    keys = page.evaluate(
        "() => Array.from(document.querySelectorAll('#figure-select option')).map((each) => each.value)"
    )
    for key in [*keys, FIGURE]:
        page.select_option("#figure-select", key)
        page.wait_for_timeout(1500)


def _sample(seen: Seen, site: Dashboard, page: Any, protocol: Any) -> None:
    protocol.send("HeapProfiler.collectGarbage")
    seen.heap_mb.append(float(protocol.send("Runtime.getHeapUsage")["usedSize"]) / 1e6)
    seen.server_mb.append(site.memory_mb()[0])
    seen.browser_mb.append(sum(one.memory_info().rss for one in browser_processes()) / 1e6)
    seen.load.append(os.getloadavg()[0])
    print(f"{time.strftime('%H:%M:%S')}  heap {seen.heap_mb[-1]:.1f} MB, server {seen.server_mb[-1]:.1f} MB, "
          f"browser {seen.browser_mb[-1]:.0f} MB, load {seen.load[-1]:.1f}", flush=True)  # fmt: skip


def _compare(seen: Seen, run: RunDirectory, periods: list[Period]) -> None:
    """Wall and CPU seconds a step of each period with clients over the mean of those without before and after it: what
    changes slowly on a shared machine falls out."""
    reader = MetricReader(run.path, cache=False)
    reader.poll()
    history = reader.history()
    steps, cpu = history.arrays("time/cpu_s")
    active, times = history.arrays("time/active_s")[1], history.wall_times("time/cpu_s")
    seen.rows = len(history.snapshot.steps)

    def per_step(period: Period) -> tuple[float, float] | None:
        inside = np.flatnonzero((times > period.begin + EDGE_S) & (times < period.end - EDGE_S))
        if len(inside) < 3:
            return None
        first, last = inside[0], inside[-1]
        count = float(steps[last] - steps[first])
        return float(active[last] - active[first]) / count, float(cpu[last] - cpu[first]) / count

    found = [per_step(period) for period in periods]
    for index in range(1, len(periods) - 1):
        before, during, after = found[index - 1 : index + 2]
        if not periods[index].polled or periods[index].toured or before is None or during is None or after is None:
            continue
        seen.wall_ratios.append(2 * during[0] / (before[0] + after[0]))
        seen.cpu_ratios.append(2 * during[1] / (before[1] + after[1]))


def report(seen: Seen, clients: int) -> PartResult:
    """The goals of the issue, and what the numbers are made of."""
    heap, server = seen.heap_mb[-1] - seen.heap_mb[0], seen.server_mb[-1] - seen.server_mb[0]
    p95 = 1e3 * percentile(seen.waits_s, 0.95)
    result = PartResult()
    result.tables = [Table("Soak", ("what", "first", "median", "last", "most"), [
        (name, *(f"{value:.1f}" for value in (values[0], median(values), values[-1], max(values))))
        for name, values in (("heap of the tab, MB", seen.heap_mb), ("server, MB", seen.server_mb),
                             ("browser, all processes, MB", seen.browser_mb), ("load of the machine", seen.load))
    ])]  # fmt: skip
    wall, cpu = (_slower(values) for values in (seen.wall_ratios, seen.cpu_ratios))
    result.goals = [
        Goal("browser heap grows by, MB", heap, 20, "at most"),
        Goal("server grows by, MB", server, 50, "at most"),
        Goal(f"poll of {clients} clients at 1 Hz, p95 ms", p95, 100, "at most"),
        Goal(f"training with {clients} clients, wall time a step, % slower", wall[0], 5, "at most", *wall[1:]),
        Goal(f"training with {clients} clients, CPU time a step, % more", cpu[0], 5, "at most", *cpu[1:]),
        Goal("polls that failed", len(seen.problems), 0, "at most"),
    ]
    result.notes = [
        f"{seen.minutes:g} minutes, {len(seen.waits_s):,} polls, {seen.news:,} of them with news, median "
        f"{1e3 * median(seen.waits_s):.0f} ms, p99 {1e3 * percentile(seen.waits_s, 0.99):.0f} ms; {seen.rows:,} rows "
        f"logged, {seen.drawn:,} drawings in the tab; server {100 * seen.server_cpu_s / (60 * seen.minutes):.1f} % of "
        f"a core; {len(seen.wall_ratios)} periods with clients compared with those before and after each",
        *[f"first failure: {problem}" for problem in seen.problems[:1]],
    ]
    result.data = {"heap_mb": seen.heap_mb, "server_mb": seen.server_mb, "browser_mb": seen.browser_mb,
                   "wall_ratios": seen.wall_ratios, "cpu_ratios": seen.cpu_ratios}  # fmt: skip
    return result


def _slower(ratios: list[float]) -> tuple[float, float, float]:
    """Percent over 1: median and its 95 % interval."""
    low, high = median_interval(ratios)
    return 100 * (median(ratios) - 1), 100 * (low - 1), 100 * (high - 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default 60)")
    parser.add_argument("--clients", type=int, default=50, help="that poll at 1 Hz beside the tab (default 50)")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder of the JSON file")
    chosen = parser.parse_args(arguments)
    started, facts = datetime.now().astimezone(), machine.facts()
    with tempfile.TemporaryDirectory(prefix="moe-hub-soak-", ignore_cleanup_errors=True) as folder:
        result = report(measure(Path(folder), chosen.minutes, chosen.clients), chosen.clients)
    print(f"\n{result.text()}")
    write(chosen.out, started, facts, ["python", "-m", "benchmarks.soak", *(arguments or sys.argv[1:])], "soak", result)
    return int(not all(goal.met for goal in result.goals))


if __name__ == "__main__":
    raise SystemExit(main())
