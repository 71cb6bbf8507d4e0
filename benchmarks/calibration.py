"""The unit of times that are no training steps: a fixed loop of plain Python, timed in the same run."""

from __future__ import annotations

import os
import resource
import time
from statistics import median

ADDITIONS = 1_000_000


def calibration_s(rounds: int = 5) -> float:
    """CPU seconds of a million additions in Python: the median of some rounds."""
    return median(_loop_s() for _ in range(rounds))


def _loop_s() -> float:
    begin = time.thread_time()
    total = 0
    for number in range(ADDITIONS):
        total += number
    assert total == ADDITIONS * (ADDITIONS - 1) // 2
    return time.thread_time() - begin


def cpu_s() -> float:
    """User and system seconds of this process with all threads, and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def conditions(unit_s: float) -> str:
    """What the times were measured beside, for a note."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"1 unit = {ADDITIONS:,} additions in Python, {1e3 * unit_s:.1f} ms of CPU time in this run; load {load} "
        f"on {os.cpu_count()} cores, so wall times are those of a shared machine"
    )
