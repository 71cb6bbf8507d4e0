"""A reader that several threads share and that has something to show at once, however long the file is."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from moe_hub.runs.column_cache import cache_path
from moe_hub.runs.files import open_regular
from moe_hub.runs.history import RunHistory
from moe_hub.runs.ingest import Ingest, parse_lines
from moe_hub.runs.reader import MetricReader

LONG = 24 << 20  # bytes that take more than about 0.2 s to read
SAMPLES, SAMPLE_BYTES, SAMPLE_TAIL = 500, 1 << 14, 1 << 16


class LiveReader:
    """`history()` reads what is new and gives the run as it is now; safe for threads, which wait for each other only
    while a few new rows are read.

    A long file with no cache is read in a thread of its own. Until that has ended, the history holds rows sampled
    from places spread over the file and all rows at its end, with `complete` False.
    """

    def __init__(self, path: Path, *, cache: bool = True) -> None:
        self._reader = MetricReader(path, cache=cache)
        self._lock = threading.Lock()
        self._loading: threading.Thread | None = None
        self._sampled: RunHistory | None = None
        self._asked = False

    def history(self) -> RunHistory:
        """The run as its files are now, or samples of it while they are read for the first time."""
        with self._lock:
            if not self._asked:
                self._asked = True
                if self._is_long():
                    self._sampled = sample(self._reader.path)
                    self._loading = threading.Thread(target=self._load, name="read metrics", daemon=True)
                    self._loading.start()
            if self._sampled is not None:
                return self._sampled
            self._reader.poll()
            return self._reader.history()

    def wait(self, timeout: float | None = None) -> None:
        """Waits until a first reading in the background has ended."""
        loading = self._loading
        if loading is not None:
            loading.join(timeout)

    @property
    def nbytes(self) -> int:
        """Memory that the columns take."""
        return self._reader.nbytes

    def _is_long(self) -> bool:
        try:
            return os.stat(self._reader.path).st_size > LONG and not cache_path(self._reader.path).exists()
        except OSError:
            return False

    def _load(self) -> None:
        try:
            self._reader.poll()
        finally:
            with self._lock:
                self._sampled = self._loading = None


def sample(path: Path) -> RunHistory:
    """A history from single rows at `SAMPLES` places of the file and all rows at its end; `total_rows` is estimated
    from the length of those."""
    with open_regular(path) as file:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        starts = [size * index // SAMPLES for index in range(SAMPLES)]
        lines = [line for start in starts if (line := _line_after(descriptor, start))]
        end = os.pread(descriptor, SAMPLE_TAIL, max(0, size - SAMPLE_TAIL))
    mean = sum(map(len, lines)) / len(lines) + 1 if lines else size or 1
    tail = end[end.find(b"\n") + 1 : end.rfind(b"\n") + 1]
    rows, _ = parse_lines(b"\n".join([*dict.fromkeys(lines), tail]))
    ingest = Ingest()
    ingest.add(rows)
    reader = MetricReader(path)  # for config, label and status
    known = reader.history()
    return RunHistory(
        known.run_id, known.config, known.status, snapshot=ingest.table.snapshot(), label=known.label,
        version=f"sampled-{size}", complete=False, total_rows=round(size / mean),
    )  # fmt: skip


def _line_after(descriptor: int, start: int) -> bytes:
    """The first whole line that begins after a place (at 0: at it); empty where none ends within reach."""
    content = os.pread(descriptor, SAMPLE_BYTES, start)
    begin = 0 if start == 0 else content.find(b"\n") + 1
    end = content.find(b"\n", begin)
    return content[begin:end] if end > begin and (begin or start == 0) else b""
