"""Live figures at scale: the goals G1 to G8, on runs that are made for it, with the real server and a real browser."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import live_browser, live_reading, made_runs
from benchmarks.calibration import conditions
from benchmarks.dashboard import Dashboard, browser, open_page, until
from benchmarks.findings import Findings
from benchmarks.options import Options
from benchmarks.report import PartResult
from moe_hub.runs.column_cache import cache_path
from moe_hub.runs.store import RunDirectory
from moe_hub.runs.writer import METRICS_FILE

SPIKE = 50.0
FIVE = made_runs.SEVEN[:5]


@dataclass(frozen=True)
class Sizes:
    """How large the runs are, and how often and how long it is measured."""

    long_rows: int = 1_000_000
    runs: int = 200
    rows: int = 5_000
    layers: int = 32
    experts: int = 64
    snapshots: int = 10_000
    listed: int = 1_000
    polls: int = 7
    drawn_rows: int = 15
    idle_s: float = 8.0
    writers_s: float = 4.0

    def scaled(self, scale: float) -> Sizes:
        """The same runs, measured longer; above a scale of 1 the writers write for the 60 s of the goal."""
        return Sizes(
            polls=max(3, round(self.polls * scale)), drawn_rows=max(3, round(self.drawn_rows * scale)),
            idle_s=self.idle_s * max(0.5, scale), writers_s=60.0 if scale > 1 else self.writers_s,
        )  # fmt: skip


def run(options: Options) -> PartResult:
    """All goals, first without a browser, then with it."""
    return measure(Sizes().scaled(options.scale))


def measure(sizes: Sizes) -> PartResult:
    """The goals on runs of these sizes, in a temporary folder."""
    found = Findings()
    with tempfile.TemporaryDirectory(prefix="moe-hub-bench-", ignore_cleanup_errors=True) as folder:
        one, many = Path(folder) / "one", Path(folder) / "many"
        live_reading.measure_writer(found, Path(folder), blocks=max(3, sizes.polls))
        short = made_runs.new_run(one, "short")
        made_runs.write_scalars(short, 100)
        live_reading.measure_polls(found, one, short, sizes.polls)
        thousand = Path(folder) / "thousand"
        for index in range(sizes.listed):
            shutil.copytree(short.path, thousand / f"20261124-1{index:05d}-copy-{index:04x}")
        last = RunDirectory(thousand / f"20261124-1{sizes.listed - 1:05d}-copy-{sizes.listed - 1:04x}")
        live_reading.measure_polls(found, thousand, last, sizes.polls)
        spike = (int(0.617283 * sizes.long_rows), SPIKE)
        long = made_runs.new_run(many, "long")
        made_runs.write_scalars(long, sizes.long_rows, spike=spike)
        live_reading.measure_opening(found, long, sizes.long_rows)
        runs = [made_runs.new_run(many, f"run{index}", f"seed={index}") for index in range(sizes.runs)]
        for seed, each in enumerate(runs):
            made_runs.write_scalars(each, sizes.rows, FIVE, seed=seed)
        figure = live_reading.measure_many(found, runs)
        live_reading.measure_polls(found, many, long, sizes.polls)
        cache_path(long.path / METRICS_FILE).unlink(missing_ok=True)  # so that the server reads the rows themselves
        with Dashboard(many, Path(folder) / "data") as site, browser() as tabs:
            _measure_long(found, site, tabs, (long, runs[0]), spike, sizes)
            live_browser.measure_route(found, site, runs)
            live_browser.measure_drawing(found, tabs, figure, f"G4 {len(runs)} runs", 1.5)
            live_browser.measure_memory(found, site, runs, long)
            _measure_others(found, site, tabs, many, sizes)
    found.result.notes.append(conditions(found.unit_s))
    return found.finish("Live figures")


def _measure_long(
    found: Findings, site: Dashboard, tabs: Any, runs: tuple[RunDirectory, RunDirectory], spike: tuple[int, float],
    sizes: Sizes,
) -> None:  # fmt: skip
    """Opens the long run (the first of two) from another in a server that does not know it, then zooms, waits, and lets
    it grow."""
    long, other = runs
    live_browser.measure_blank(found, tabs, sizes.idle_s / 2)
    page = live_browser.open_on(tabs, site, other, live_reading.LOSS, 0)
    page.wait_for_timeout(2500)
    live_browser.measure_opening(found, page, long, sizes.long_rows)
    page.close()
    begin = time.time()
    page = open_page(tabs, site.address, f"run={long.run_id}&figure={live_reading.LOSS}")
    live_browser.wait_drawn(page, sizes.long_rows - 1)
    found.time("G3 page opened on the long run", wall_s=time.time() - begin, beside="with the page itself, warm")
    page.wait_for_timeout(2500)
    live_browser.measure_zoom(found, page, spike, sizes.long_rows)
    page.wait_for_timeout(2500)
    live_browser.measure_idle(found, site, page, sizes.idle_s)
    name = f"run of {sizes.long_rows:,} rows"
    live_browser.measure_latency(found, page, long, sizes.long_rows - 1, sizes.drawn_rows, name)
    page.close()


def _measure_others(found: Findings, site: Dashboard, tabs: Any, runs_dir: Path, sizes: Sizes) -> None:
    """A short run that grows, the heatmap, and the writers."""
    short = made_runs.new_run(runs_dir, "short")
    made_runs.write_scalars(short, 100)
    page = live_browser.open_on(tabs, site, short, live_reading.LOSS, 99)
    live_browser.measure_latency(found, page, short, 99, sizes.drawn_rows, "run of 100 rows")
    page.close()
    heat = made_runs.new_run(runs_dir, "heat", f"model.num_layers={sizes.layers}", f"model.num_experts={sizes.experts}")
    made_runs.write_tables(heat, sizes.snapshots, sizes.layers, sizes.experts)
    page = live_browser.open_on(tabs, site, heat, "expert-activations", 0)
    until(lambda: _complete(site, heat, "expert-activations"))
    page.wait_for_timeout(2500)
    name = f"G8 heatmap {sizes.layers} x {sizes.experts} x {sizes.snapshots:,}"
    live_browser.measure_redraw(found, page, name, 1.0)
    page.close()
    live_browser.measure_writers(found, site, tabs, runs_dir, sizes.writers_s)


def _complete(site: Dashboard, run: RunDirectory, figure: str = live_reading.LOSS) -> bool:
    """Whether the server has read all rows of a run."""
    content = site.get("api/live", runs=run.run_id, figure=figure, width_px=800)
    return b"samples until then" not in content
