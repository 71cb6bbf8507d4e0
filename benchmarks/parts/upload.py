"""A 1 GB upload by a real browser: time and the server's memory; the server killed midway; the file prepared."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.calibration import conditions
from benchmarks.dashboard import Dashboard, browser, until
from benchmarks.findings import Findings
from benchmarks.options import Options
from benchmarks.report import PartResult, Table

FILE_BYTES = 1_000_000_000
ROW_BYTES = 2000
MOST_GROWTH_MB = 20.0
MOST_PREPARING_MB = 400.0
SAMPLED_S = 0.05


def run(options: Options) -> PartResult:
    """Uploads, kills, goes on, prepares."""
    return measure(FILE_BYTES)


def measure(size: int) -> PartResult:
    """The same for a file of `size` bytes."""
    found = Findings()
    with tempfile.TemporaryDirectory(prefix="moe-hub-bench-", ignore_cleanup_errors=True) as name, browser() as chrome:
        folder = Path(name)
        path = write_rows(folder / "rows.jsonl", size)
        rows = [upload_whole(found, chrome, folder, path), upload_killed(found, chrome, folder, path)]
        rows.append(prepare(found, folder, path))
    columns = ("what", "GB", "wall s", "RSS before, MB", "RSS peak, MB", "growth, MB")
    found.result.tables.append(Table("a large file, browser and server on one machine", columns, rows))
    found.result.notes.append("RSS: resident memory of the server (of the preparing process), sampled every 50 ms")
    found.result.notes.append(conditions(found.unit_s))
    return found.result


def write_rows(path: Path, size: int) -> Path:
    """JSON lines that differ, so that a chunk in another place would be noticed."""
    filler = "".join(chr(97 + (index * index) % 26) for index in range(ROW_BYTES))
    with path.open("w") as file:
        written = number = 0
        while written < size:
            written += file.write(json.dumps({"text": f"{number} {filler[number % 997 :]}"}) + "\n")
            number += 1
    return path


def upload_whole(found: Findings, chrome: Any, folder: Path, path: Path) -> tuple[str, ...]:
    """One upload from its first byte to its last."""
    data = folder / "whole"
    with Dashboard(folder / "runs", data) as site:
        page = _data_tab(chrome, site.address)
        with sampled(site.process.pid) as samples:
            begin = time.perf_counter()
            page.set_input_files("#upload-input", str(path))
            until(lambda: "is here" in page.inner_text("#upload-message"), 1200)
            wall = time.perf_counter() - begin
        page.close()
    growth = (max(samples) - samples[0]) / 1e6
    found.at_most("growth of the server's memory during an upload, MB", growth, MOST_GROWTH_MB)
    found.holds("the file that arrived has the same bytes", same_bytes(path, data / "uploads" / path.name))
    shutil.rmtree(data)
    return _row("uploaded by a browser", path, wall, samples, found)


def upload_killed(found: Findings, chrome: Any, folder: Path, path: Path) -> tuple[str, ...]:
    """The same, with SIGKILL to the server once a third is there, and a new server on the same port."""
    data = folder / "killed"
    site = Dashboard(folder / "runs", data)
    with site:
        page = _data_tab(chrome, site.address)
        begin = time.perf_counter()
        page.set_input_files("#upload-input", str(path))
        until(lambda: _received(data) > path.stat().st_size / 3, 600, 0.01)
        site.process.kill()
        site.process.wait()
        found.holds("nothing stands under the file's name after the kill", not (data / "uploads" / path.name).exists())
        kept = _received(data)
        with Dashboard(folder / "runs", data, site.port) as again, sampled(again.process.pid) as samples:
            until(lambda: "is here" in page.inner_text("#upload-message"), 1200)
            wall = time.perf_counter() - begin
        page.close()
    found.result.notes.append(f"the upload went on by itself after {kept / 1e6:,.0f} MB")
    found.holds("after a kill it goes on and the bytes are the same", same_bytes(path, data / "uploads" / path.name))
    left = [item.name for item in (data / "uploads").iterdir() if item.name.startswith(".")]
    found.holds("nothing else is left in the folder", not left)
    shutil.rmtree(data)
    return _row("server killed midway, goes on", path, wall, samples, found)


def prepare(found: Findings, folder: Path, path: Path) -> tuple[str, ...]:
    """`python -m moe_hub.data prepare`: reads, splits and tokenises the file in a process of its own."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "moe_hub.data", "prepare", str(path), "--json-lines"]
    environment = {**os.environ, "MOE_HUB_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    with sampled(process.pid) as samples:
        out, _ = process.communicate(timeout=1200)
    wall = time.perf_counter() - begin
    prepared = json.loads(out.splitlines()[-1])["prepared"]
    found.result.notes.append(f"prepared: {prepared['tokens']:,} tokens (bytes), {prepared['bytes']:,} bytes of cache")
    found.at_most("peak memory of preparing it, MB", max(samples) / 1e6, MOST_PREPARING_MB)
    return _row("prepared (read, split, tokenised)", path, wall, samples, found)


@contextmanager
def sampled(pid: int) -> Iterator[list[int]]:
    """Resident bytes of a process every `SAMPLED_S`, the first at once."""
    process, done = psutil.Process(pid), threading.Event()
    samples = [process.memory_info().rss]

    def sample() -> None:
        while not done.wait(SAMPLED_S):
            try:
                samples.append(process.memory_info().rss)
            except psutil.NoSuchProcess:
                return

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files are equal."""
    with one.open("rb") as first, other.open("rb") as second:
        while True:
            piece = first.read(1 << 22)
            if piece != second.read(1 << 22):
                return False
            if not piece:
                return True


def _data_tab(chrome: Any, address: str) -> Any:
    page = chrome.new_page()
    page.goto(f"{address}?tab=data")
    until(lambda: page.locator("#data-source-select option").count() >= 2)
    page.wait_for_timeout(1500)  # what the server loads with its first answers is loaded
    return page


def _received(data: Path) -> int:
    return max((part.stat().st_size for part in (data / "uploads").glob(".upload-*.part")), default=0)


def _row(what: str, path: Path, wall: float, samples: list[int], found: Findings) -> tuple[str, ...]:
    gigabytes, first, peak = path.stat().st_size / 1e9, samples[0] / 1e6, max(samples) / 1e6
    found.result.data[what] = {"gb": gigabytes, "wall_s": wall, "first_mb": first, "peak_mb": peak}
    return (what, f"{gigabytes:.3f}", f"{wall:.1f}", f"{first:.1f}", f"{peak:.1f}", f"{peak - first:.1f}")
