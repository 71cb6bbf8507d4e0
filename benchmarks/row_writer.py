"""`python -m benchmarks.row_writer RUN_DIR ROWS RATE`: writes rows at a rate (1/s) and prints how many were lost."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from moe_hub.runs.writer import MetricWriter


def write(run_dir: Path, rows: int, rate: float) -> int:
    """Writes rows of ten scalars at even times, late ones at once; the rows that the writer counts as lost."""
    begin = time.monotonic()
    with MetricWriter(run_dir) as writer:
        for step in range(rows):
            time.sleep(max(0.0, begin + step / rate - time.monotonic()))
            writer.write(step, ten_scalars(step), tokens=step)
        return writer.lost_rows


def ten_scalars(step: int) -> dict[str, float]:
    """The values of a row."""
    return {"train/loss": step / 7, **{f"loss/part_{index}": index + step / 9 for index in range(9)}}


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
