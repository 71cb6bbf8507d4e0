"""The live path with the real server and the real browser."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.dashboard import HOST, Dashboard, browser_cpu_s, draws, open_page, until
from benchmarks.findings import Findings, percentile
from benchmarks.made_runs import TOKENS_A_STEP, new_run
from moe_hub.runs.store import RunDirectory
from moe_hub.runs.writer import MetricWriter
from moe_hub.web.drawings import MOST_RUNS

ROOT = Path(__file__).resolve().parent.parent
PLOTLY = ROOT / "assets" / "vendor" / "plotly-cartesian.min.js"
DRAW = """async (text) => {
  const begin = performance.now();
  const figure = JSON.parse(text);
  await Plotly.newPlot(document.getElementById('figure'), figure.data, figure.layout);
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return [(performance.now() - begin) / 1000, document.querySelectorAll('#figure .trace').length];
}"""
ZOOM = f"""async ([low, high]) => {{
  const host = {HOST};
  const rows = () => Math.max(0, ...host._fullData.map((trace) => (trace.x || []).length));
  const before = Number(host.dataset.drawn), begin = performance.now();
  const changed = new Promise((done) => new MutationObserver((_, watcher) => {{
    if (Number(host.dataset.drawn) > before) {{
      watcher.disconnect();
      requestAnimationFrame(() => setTimeout(done));
    }}
  }}).observe(host, {{attributes: true, attributeFilter: ['data-drawn']}}));
  window.Plotly.relayout(host, {{'xaxis.range[0]': low, 'xaxis.range[1]': high}});
  await changed;
  return [(performance.now() - begin) / 1000, rows()];
}}"""
LARGEST = f"() => Math.max(...{HOST}._fullData.flatMap((trace) => Array.from(trace.y || []).map(Number)))"


def measure_latency(found: Findings, page: Any, run: RunDirectory, last: int, rows: int, name: str) -> None:
    """G1: from a row's write to its drawing, rows at other places between two polls each time."""
    delays = []
    with MetricWriter(run.path) as writer:
        for step in range(last + 1, last + 1 + rows):
            time.sleep(1.1 + 0.37 * (step % 3))
            at = time.time()
            writer.write(step, {"train/loss": 1.0, "loss/task": 1.0}, tokens=step * TOKENS_A_STEP)
            delays.append(until(partial(_drawn_at, page, step)) - at)
    p95 = percentile(delays, 0.95)
    found.time(f"G1 row written to drawn, {name}: median", wall_s=percentile(delays, 0.5), beside=f"{rows} rows")
    found.time(f"G1 row written to drawn, {name}: p95", wall_s=p95, beside=f"largest {max(delays):.2f} s")
    found.at_most(f"G1 row written to drawn, {name}, p95 s", p95, 1.5)


def measure_zoom(found: Findings, page: Any, spike: tuple[int, float], rows: int) -> None:
    """G5: the spike of one row at full view, and the rows of a zoom as they are in the file."""
    shown = float(page.evaluate(LARGEST))
    found.holds(f"G5 a spike of one row in {rows:,} is drawn at full view", abs(shown - spike[1]) < 1e-3 * spike[1])
    waits, counts, costs = [], [], []
    for shift in (0, 100, -100, 200, -200):
        page.wait_for_timeout(1300)  # so that nothing is on its way from before
        low = spike[0] - 1000 + shift
        before = browser_cpu_s()
        wait, count = page.evaluate(ZOOM, [low + 0.5, low + 2000.5])
        costs.append(browser_cpu_s() - before)
        waits.append(float(wait))
        counts.append(int(count))
    spread = f"{min(waits):.2f} to {max(waits):.2f} s, {min(counts):,} to {max(counts):,} points"
    middle = percentile(waits, 0.5)
    found.time("G5 zoom to 2,000 rows: from the zoom to the rows drawn", cpu_s=percentile(costs, 0.5), wall_s=middle,
               beside=f"{spread}; CPU of the browser")  # fmt: skip
    found.at_most("G5 zoom to 2,000 rows, wall ms (of these 120 wait for the end of the gesture)", 1e3 * middle, 200)
    found.holds("G5 the zoom shows every row", min(counts) >= 2000)
    page.evaluate(f"() => window.Plotly.relayout({HOST}, {{'xaxis.autorange': true}})")


def measure_idle(found: Findings, site: Dashboard, page: Any, seconds: float) -> None:
    """G2: what a tab with nothing new costs the whole browser and the server."""
    before = (browser_cpu_s(), site.cpu_s(), len(draws(page)))
    time.sleep(seconds)
    after = (browser_cpu_s(), site.cpu_s(), len(draws(page)))
    tab, server = (100 * (after[index] - before[index]) / seconds for index in (0, 1))
    found.time("G2 idle tab for a second: browser", cpu_s=tab / 100, beside=f"{tab:.2f} % of a core")
    found.time("G2 idle tab for a second: server", cpu_s=server / 100, beside=f"{server:.2f} % of a core")
    found.at_most("G2 idle tab, the whole browser, % of a core", tab, 2)
    found.at_most("G2 idle tab, server, % of a core", server, 2)
    found.holds("G2 an idle tab draws nothing", after[2] == before[2])


def measure_blank(found: Findings, browser: Any, seconds: float) -> None:
    """What the browser takes with an empty tab: the floor of the idle tab."""
    page = browser.new_page()
    page.wait_for_timeout(2000)
    before = browser_cpu_s()
    time.sleep(seconds)
    share = 100 * (browser_cpu_s() - before) / seconds
    found.time("G2 empty tab for a second: browser", cpu_s=share / 100, beside=f"{share:.2f} % of a core")
    page.close()


def measure_redraw(found: Findings, page: Any, name: str, bound_s: float, rounds: int = 3) -> None:
    """From the choice of another axis to the figure drawn: server, transfer and browser."""
    waits = []
    for axis in ("tokens", "time", "tokens", "step")[: rounds + 1]:
        before, begin = len(draws(page)), time.time()
        page.select_option("#axis-select", axis)
        waits.append(until(partial(_draws_after, page, before))[-1][0] - begin)
    middle = percentile(waits, 0.5)
    found.time(f"{name}: another axis drawn", wall_s=middle, beside=f"{min(waits):.2f} to {max(waits):.2f} s")
    found.at_most(f"{name}, drawn, wall s", middle, bound_s)


def measure_drawing(found: Findings, browser: Any, content: bytes, name: str, bound_s: float) -> None:
    """A figure drawn by Plotly.js alone, three times; the CPU time is that of all processes of the browser."""
    page = browser.new_page(viewport={"width": 1000, "height": 600}, offline=True)
    waits, costs = [], []
    for _ in range(3):
        page.set_content('<div id="figure" style="height:420px"></div>')
        page.add_script_tag(path=str(PLOTLY))
        before = browser_cpu_s()
        wait, traces = page.evaluate(DRAW, content.decode())
        costs.append(browser_cpu_s() - before)
        waits.append(float(wait))
    page.close()
    cost, wait = percentile(costs, 0.5), percentile(waits, 0.5)
    found.time(f"{name} drawn by the browser", cpu_s=cost, wall_s=wait, beside=f"{traces} traces")
    found.at_most(f"{name}, drawn, wall s", percentile(waits, 0.5), bound_s)


def measure_route(found: Findings, site: Dashboard, runs: list[RunDirectory]) -> None:
    """G4: the answer to a page with all runs in its list and as many over each other as the route takes."""
    ids = ",".join(run.run_id for run in runs[:MOST_RUNS])
    spans, size = [], 0
    for width in (800, 820, 840):  # the first reads the runs; the others draw anew
        cpu, begin = site.cpu_s(), time.perf_counter()
        size = len(site.get("api/live", runs=ids, figure="overlay-of-runs", width_px=width))
        spans.append((time.perf_counter() - begin, site.cpu_s() - cpu))
    name = f"G4 route: {len(runs)} runs listed, {min(len(runs), MOST_RUNS)} over each other"
    found.time(f"{name}, first time", wall_s=spans[0][0], cpu_s=spans[0][1], beside="reads them")
    wall, cpu = min(spans[1:])
    found.time(name, wall_s=wall, cpu_s=cpu, beside=f"{size:,} B; CPU to 10 ms")
    found.at_most(f"{name}, wall ms", 1e3 * wall, 150)
    found.at_most(f"{name}, MB", size / 1e6, 1)


def measure_memory(found: Findings, site: Dashboard, runs: list[RunDirectory], long: RunDirectory) -> None:
    """G7: resident memory of the server once it has read all these runs and drawn them, twenty at a time."""
    start = site.memory_mb()[0]
    for ids in [[run.run_id for run in runs[first : first + 20]] for first in range(0, len(runs), 20)]:
        site.get("api/live", runs=",".join(ids), figure="overlay-of-runs", width_px=800)
    site.get("api/live", runs=long.run_id, figure="training-loss", width_px=800)
    resident, own = site.memory_mb()
    beside = f"{start:.0f} MB before, {own:.0f} MB not shared"
    found.result.data["G7 memory"] = {"start_mb": start, "resident_mb": resident, "own_mb": own}
    found.result.notes.append(f"G7: {resident:.0f} MB resident; {beside}")
    found.at_most(f"G7 server memory with 1 long and {len(runs)} runs, MB", resident, 300)


def measure_writers(found: Findings, site: Dashboard, runs_dir: Path, seconds: float) -> None:
    """Eight processes write 200 rows/s each while two readers follow; nothing may be lost."""
    runs = [new_run(runs_dir, f"writer{index}") for index in range(8)]
    rows, rate = round(200 * seconds), 200
    writers = [
        subprocess.Popen([sys.executable, "-m", "benchmarks.row_writer", str(run.path), str(rows), str(rate)],
                         stdout=subprocess.PIPE, text=True, cwd=ROOT) for run in runs
    ]  # fmt: skip
    ids = ",".join(run.run_id for run in runs)
    stop = threading.Event()
    answers: list[int] = []
    readers = [threading.Thread(target=_follow, args=(site, ids, stop, answers)) for _ in range(2)]
    begin = time.monotonic()
    try:
        for reader in readers:
            reader.start()
        lost = sum(int(writer.communicate(timeout=60 + 4 * seconds)[0]) for writer in writers)
    finally:
        stop.set()
        for writer in writers:
            writer.kill()
        for reader in readers:
            reader.join()
    wall = time.monotonic() - begin
    lines = site.get("api/figure.csv", runs=ids, figure="training-loss").count(b"\n") - 1
    beside = f"{8 * rows:,} rows written in {wall:.1f} s, {lines:,} read, {len(answers)} answers with news"
    found.result.notes.append(f"8 writers at {rate} rows/s, 2 readers: {beside}")
    found.holds("8 writers and 2 readers lose no row", lost == 0 and lines == 8 * rows)


def wait_drawn(page: Any, step: int, timeout_s: float = 120.0) -> None:
    """Until the figure holds a step at its end."""
    until(lambda: page.evaluate(
        f"(step) => ({HOST}._fullData || []).some((trace) => trace.x && Number(trace.x[trace.x.length - 1]) >= step)",
        step), timeout_s)  # fmt: skip


def open_on(browser: Any, site: Dashboard, run: RunDirectory, figure: str, last: int) -> Any:
    """A tab on a figure of a run that is drawn to its last row."""
    page = open_page(browser, site.address, f"run={run.run_id}&figure={figure}")
    wait_drawn(page, last)
    return page


def _drawn_at(page: Any, step: int) -> float | None:
    return next((at for at, x in draws(page) if x >= step), None)


def _draws_after(page: Any, known: int) -> list[tuple[float, float]]:
    return draws(page)[known:]


def _follow(site: Dashboard, ids: str, stop: threading.Event, answers: list[int]) -> None:
    while not stop.wait(0.25):
        content = site.get("api/live", runs=ids, figure="training-loss", width_px=800)
        if len(content) > 1:
            answers.append(len(content))
