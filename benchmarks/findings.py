"""Times, sizes and goals of one part while they come in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.calibration import calibration_s, cpu_s
from benchmarks.report import Goal, PartResult, Table


@dataclass
class Span:
    """CPU seconds of this process (all threads, ended children) and wall seconds; 0 until the block has ended."""

    cpu_s: float = 0.0
    wall_s: float = 0.0


@contextmanager
def timed() -> Iterator[Span]:
    """Times a block."""
    span = Span()
    cpu, wall = cpu_s(), time.perf_counter()
    yield span
    span.cpu_s, span.wall_s = cpu_s() - cpu, time.perf_counter() - wall


@dataclass
class Findings:
    """A row for each time, each also in units of the calibration loop; goals; and all of it for the results file."""

    unit_s: float = field(default_factory=calibration_s)
    rows: list[tuple[str, ...]] = field(default_factory=list)
    result: PartResult = field(default_factory=PartResult)

    def time(self, name: str, *, cpu_s: float | None = None, wall_s: float | None = None, beside: str = "") -> None:
        """Adds a time; `beside` is what else is to be known of it, such as bytes."""
        cells = [
            text
            for value in (cpu_s, wall_s)
            for text in (("", "") if value is None else (f"{1e3 * value:.4g}", f"{value / self.unit_s:.3g}"))
        ]
        self.rows.append((name, *cells, beside))
        self.result.data[name] = {"cpu_s": cpu_s, "wall_s": wall_s, "beside": beside}

    def at_most(self, text: str, measured: float, bound: float) -> None:
        """A goal that is a ceiling."""
        self.result.goals.append(Goal(text, measured, bound, "at most"))

    def holds(self, text: str, truth: bool) -> None:
        """A goal that holds or does not."""
        self.result.goals.append(Goal(f"{text} (1: yes)", float(truth), 1, "at least"))

    def finish(self, title: str) -> PartResult:
        """The result with its table."""
        columns = ("what", "CPU ms", "units", "wall ms", "units", "beside")
        self.result.tables.append(Table(title, columns, self.rows))
        return self.result


def percentile(values: list[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-round(share * 1000) * len(ordered) // 1000) - 1)]
