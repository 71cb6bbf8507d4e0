"""The live path without a browser: reader, writer, the routes with a test client, and runs over each other."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from benchmarks.calibration import cpu_s
from benchmarks.findings import Findings, timed
from benchmarks.row_writer import ten_scalars
from moe_hub.figures import serve
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory
from moe_hub.runs.live import LiveReader
from moe_hub.runs.store import RunDirectory
from moe_hub.runs.writer import MetricWriter

LOSS = "training-loss"


def measure_writer(found: Findings, folder: Path, blocks: int, rows: int = 2000) -> None:
    """G6: CPU time of a row of ten scalars, in blocks."""
    costs = []
    values = ten_scalars(1)
    with MetricWriter(folder) as writer:
        for block in range(blocks):
            begin = cpu_s()
            for step in range(block * rows, (block + 1) * rows):
                writer.write(step, values, tokens=step)
            costs.append((cpu_s() - begin) / rows)
    cost = median(costs)
    found.time("G6 writer, a row of 10 scalars", cpu_s=cost, beside=f"{writer.lost_rows} rows lost")
    found.at_most("G6 writer, CPU us a row of 10 scalars", 1e6 * cost, 20)


def measure_opening(found: Findings, run: RunDirectory, rows: int) -> None:
    """G3: a long run read for the first time and drawn, its first points, and again from the cache beside it."""
    with timed() as cold:
        reader = LiveReader(run.path)
        with timed() as first:
            sampled = reader.history()
            points = serve.figure_json(LOSS, [sampled], View())
        reader.wait()
        history = reader.history()
        serve.figure_json(LOSS, [history], View())
    assert history.complete
    assert history.total_rows == rows
    with timed() as warm:
        again = LiveReader(run.path).history()
        serve.figure_json(LOSS, [again], View())
    assert again.complete
    assert again.total_rows == rows
    shown = "samples" if not sampled.complete else "all rows"
    text = f"{rows:,} rows x {len(history.names())} metrics"
    found.time("G3 first points", cpu_s=first.cpu_s, wall_s=first.wall_s, beside=f"{shown}, {len(points):,} B")
    found.time("G3 cold, all rows and the figure", cpu_s=cold.cpu_s, wall_s=cold.wall_s, beside=text)
    found.time("G3 warm, from the cache", cpu_s=warm.cpu_s, wall_s=warm.wall_s)
    found.at_most("G3 first points, wall s", first.wall_s, 1)
    found.at_most("G3 cold, CPU s", cold.cpu_s, 4)
    found.at_most("G3 warm, CPU s", warm.cpu_s, 1)


def measure_polls(found: Findings, runs_dir: Path, run: RunDirectory, polls: int) -> None:
    """G2: a poll with nothing new, through the routes: as it comes once a second, so with a look at the folder."""
    from moe_hub.web import create_dashboard
    from moe_hub.web.run_index import FRESH_S

    client = create_dashboard(runs_dir=runs_dir, data_dir=runs_dir.with_name("poll-data")).server.test_client()
    known: dict[str, Any] = {"runs": run.run_id, "focus": run.run_id, "figure": LOSS, "width_px": 800}
    for _ in range(600):  # until the run has been read
        answer = client.get("/api/live", query_string=known)
        if answer.data == b"0":
            break
        known |= _versions(orjson.loads(answer.data))
        time.sleep(0.1)
    else:
        raise TimeoutError("the run was not read within a minute")
    rested, quick = [], []
    for _ in range(polls):
        time.sleep(FRESH_S)
        rested.append(_poll_s(client, known))
        quick.append(_poll_s(client, known))
    answer = client.get("/api/live", query_string=known)
    size = len(answer.data) + sum(len(name) + len(value) + 4 for name, value in answer.headers)
    count = sum(1 for _ in runs_dir.glob("*/config.yaml"))
    name = f"G2 poll with nothing new, {count} run{'s' if count > 1 else ''} in the folder"
    found.time(name, cpu_s=median(rested), beside=f"{len(answer.data)} B, with headers {size} B")
    found.time(f"{name}, again within {FRESH_S} s", cpu_s=median(quick))
    found.at_most(f"{name}, CPU ms", 1e3 * median(rested), 2)
    found.at_most(f"{name}, B of the body", len(answer.data), 300)
    found.at_most(f"{name}, B of body and headers", size, 300)


def measure_many(found: Findings, runs: list[RunDirectory]) -> bytes:
    """G4: all runs over each other through the figures; gives the figure."""
    with timed() as read:
        histories: list[RunHistory] = [LiveReader(run.path).history() for run in runs]
    costs = []
    for width in (1000, 1001, 1002):  # other views, so that nothing is kept from before
        with timed() as drawn:
            content = serve.figure_json("overlay-of-runs", histories, View(width_px=width))
        costs.append(drawn)
    best = min(costs, key=lambda span: span.cpu_s)
    rows = sum(history.total_rows for history in histories)
    found.time(f"G4 {len(runs)} runs read for the first time", cpu_s=read.cpu_s, wall_s=read.wall_s,
               beside=f"{rows:,} rows")  # fmt: skip
    found.time(f"G4 figure of {len(runs)} runs", cpu_s=best.cpu_s, wall_s=best.wall_s, beside=f"{len(content):,} B")
    found.at_most(f"G4 figure of {len(runs)} runs, CPU ms", 1e3 * best.cpu_s, 150)
    found.at_most(f"G4 figure of {len(runs)} runs, MB", len(content) / 1e6, 1)
    return content


def _versions(answer: dict[str, Any]) -> dict[str, str]:
    return {f"{name}_v": answer[name]["v"] for name in ("runs", "status", "figure", "offer") if name in answer}


def _poll_s(client: Any, known: dict[str, Any]) -> float:
    begin = time.process_time()
    answer = client.get("/api/live", query_string=known)
    cost = time.process_time() - begin
    assert answer.data == b"0", answer.data[:200]
    return cost
