"""The live path with the real server and the real browser."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.dashboard import HOST, Dashboard, browser_cpu_s, draws, open_page, until
from benchmarks.findings import Findings, percentile
from benchmarks.made_runs import TOKENS_A_STEP, new_run, set_state
from moe_hub.figures.axes import TITLES
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
AXIS_TITLE = f"() => {HOST}._fullLayout.xaxis.title.text"
COMPLETE = f"""(rows) => {{
  const notes = (({HOST}._fullLayout || {{}}).meta || {{}}).notes || [];
  return notes.some((note) => note.startsWith(rows.toLocaleString('en'))) && !notes.join().includes('samples');
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


def measure_opening(found: Findings, page: Any, run: RunDirectory, rows: int) -> None:
    """G3: from a click on a run that the server has not read to its first points, and to all of its rows."""
    page.fill("#run-search", run.run_id)
    row = page.locator(f"#run-table tr[data-run='{run.run_id}'] .run-name")
    row.wait_for()
    begin = time.time()
    row.click()
    first = until(partial(_drawn_at, page, rows - 1)) - begin
    until(lambda: page.evaluate(COMPLETE, rows))
    whole = draws(page)[-1][0] - begin
    found.time("G3 a run opened by a click: first points drawn", wall_s=first)
    found.time("G3 a run opened by a click: all rows drawn", wall_s=whole, beside=f"{rows:,} rows x 7 metrics")
    found.at_most("G3 a run opened by a click, first points drawn, wall s", first, 1)
    found.at_most("G3 a run opened by a click, all rows drawn, wall s", whole, 4)


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
    found.at_most("G5 zoom to 2,000 rows, wall ms", 1e3 * middle, 200)
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
        begin = time.time()
        page.select_option("#axis-select", axis)
        until(lambda axis=axis: page.evaluate(AXIS_TITLE) == TITLES[axis])
        waits.append(until(partial(_drawn_since, page, begin)) - begin)
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
    """G7: resident memory of the server once it has read all these runs and drawn them over each other."""
    start = site.memory_mb()[0]
    site.get("api/live", runs=",".join(run.run_id for run in runs), figure="overlay-of-runs", width_px=800)
    site.get("api/live", runs=long.run_id, figure="training-loss", width_px=800)
    resident, own = site.memory_mb()
    beside = f"{start:.0f} MB before, {own:.0f} MB not shared"
    found.result.data["G7 memory"] = {"start_mb": start, "resident_mb": resident, "own_mb": own}
    found.result.notes.append(f"G7: {resident:.0f} MB resident; {beside}")
    found.at_most(f"G7 server memory with 1 long and {len(runs)} runs, MB", resident, 300)


def measure_writers(found: Findings, site: Dashboard, tabs: Any, runs_dir: Path, seconds: float) -> None:
    """Eight processes write 200 rows/s each while two tabs of the browser follow all of them; nothing may be lost, and
    both tabs end with the last row of each run."""
    runs = [new_run(runs_dir, f"writer{index}") for index in range(8)]
    for run in runs:
        set_state(run, "running", 0)
    rows, rate = round(200 * seconds), 200
    ids = ",".join(run.run_id for run in runs)
    pages = [open_page(tabs, site.address, f"run={ids}&figure=training-loss") for _ in range(2)]
    begin = time.monotonic()
    writers = [
        subprocess.Popen([sys.executable, "-m", "benchmarks.row_writer", str(run.path), str(rows), str(rate)],
                         stdout=subprocess.PIPE, text=True, cwd=ROOT) for run in runs
    ]  # fmt: skip
    try:
        while any(writer.poll() is None for writer in writers) and time.monotonic() - begin < 60 + 4 * seconds:
            pages[0].wait_for_timeout(200)
        lost = sum(int(writer.communicate(timeout=10)[0]) for writer in writers)
        wall = time.monotonic() - begin
        for page in pages:
            until(partial(_ends, page, rows - 1, len(runs)), 60)
    finally:
        for writer in writers:
            writer.kill()
    counts = [len(draws(page)) for page in pages]
    for page in pages:
        page.close()
    lines = site.get("api/figure.csv", runs=ids, figure="training-loss").count(b"\n") - 1
    beside = f"{8 * rows:,} rows written in {wall:.1f} s, {lines:,} read; drawn {counts[0]} and {counts[1]} times"
    found.result.notes.append(f"8 writers at {rate} rows/s for {seconds:.0f} s, 2 tabs of the browser: {beside}")
    found.holds("8 writers and 2 tabs lose no row", lost == 0 and lines == 8 * rows)
    found.holds("2 tabs draw the last row of each of 8 runs", min(counts) > 0)


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


def _drawn_since(page: Any, begin: float) -> float | None:
    """When the newest drawing after a time (unix s) was on the screen."""
    return max((at for at, _ in draws(page) if at > begin), default=None)


def _ends(page: Any, step: int, runs: int) -> bool:
    """Whether the curves of so many runs end at a step."""
    last = (
        f"() => {HOST}._fullData.map((trace) => (trace.x && trace.x.length ? Number(trace.x[trace.x.length - 1]) : -1))"
    )
    return sum(float(x) == step for x in page.evaluate(last)) >= runs
