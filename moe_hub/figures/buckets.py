"""Which rows of a long curve are drawn: first, last, lowest and highest of each bucket, so no spike is lost."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

RAW_ROWS = 2002  # this many rows or fewer are drawn as they are: 2,000 in view and one beyond each side
_LOOP_FROM = 600  # rows per bucket from which numpy's argmin on each bucket is quicker than one pass over all


def visible(x: FloatArray, x_range: tuple[float, float] | None) -> slice:
    """Rows within the range and one beyond each side, so that lines reach the edge; all where x is not sorted."""
    if x_range is None or x.size == 0 or not _is_sorted(x):
        return slice(0, x.size)
    first = int(np.searchsorted(x, x_range[0], "left"))
    last = int(np.searchsorted(x, x_range[1], "right"))
    return slice(max(0, first - 1), min(x.size, last + 1))


def select(x: FloatArray, y: FloatArray, buckets: int, *, log_x: bool = False, raw_rows: int = RAW_ROWS) -> IntArray:
    """Indices (K,) of the rows to draw, ascending: all when `raw_rows` or fewer, else at most five per bucket.

    Buckets are equally wide on the axis (on its logarithm with `log_x`, where x <= 0 is left out); where x is not
    sorted they hold equally many rows. Of each bucket: the first and last row, the lowest and highest finite value,
    and the first value that is not finite, which draws as a gap. The same input gives the same rows.
    """
    kept = _drawable(x) if log_x else None
    if kept is not None and kept.size < x.size:
        return np.asarray(kept[select(x[kept], y[kept], buckets, log_x=log_x, raw_rows=raw_rows)])
    if x.size <= raw_rows:
        return np.arange(x.size)
    starts = _starts(x, max(1, buckets), log_x)
    ends = np.append(starts[1:], x.size)
    if x.size >= _LOOP_FROM * starts.size:
        low, high, gap = _extremes_by_bucket(y, starts, ends)
    else:
        low, high, gap = _extremes_in_one_pass(y, starts, ends)
    return np.unique(np.concatenate((starts, ends - 1, low, high, gap)))


def _is_sorted(x: FloatArray) -> bool:
    return bool((x[1:] >= x[:-1]).all())


def _drawable(x: FloatArray) -> IntArray:
    return np.flatnonzero(x > 0)


def _starts(x: FloatArray, buckets: int, log_x: bool) -> IntArray:
    """First row of each bucket that has any, ascending."""
    if not _is_sorted(x) or x[-1] == x[0]:
        return np.unique(np.linspace(0, x.size, min(buckets, x.size), endpoint=False).astype(np.int64))
    edges = np.geomspace(x[0], x[-1], buckets + 1) if log_x else np.linspace(x[0], x[-1], buckets + 1)
    starts = np.searchsorted(x, edges[1:-1], "left")
    return np.unique(np.append(0, starts[starts < x.size]))


def _extremes_by_bucket(y: FloatArray, starts: IntArray, ends: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    low, high, gap = [], [], []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        part = y[start:end]
        lowest, highest = int(part.argmin()), int(part.argmax())  # the first NaN, where there is one
        if not (np.isfinite(part[lowest]) and np.isfinite(part[highest])):
            finite = np.isfinite(part)
            gap.append(start + int(finite.argmin()))
            if not finite.any():
                continue
            lowest = int(np.where(finite, part, np.inf).argmin())
            highest = int(np.where(finite, part, -np.inf).argmax())
        low.append(start + lowest)
        high.append(start + highest)
    return np.array(low, np.int64), np.array(high, np.int64), np.array(gap, np.int64)


def _extremes_in_one_pass(y: FloatArray, starts: IntArray, ends: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    counts = ends - starts
    finite = np.isfinite(y)
    gaps = _first_by_bucket(~finite, starts)
    lowest = np.minimum.reduceat(np.where(finite, y, np.inf), starts)
    highest = np.maximum.reduceat(np.where(finite, y, -np.inf), starts)
    low = _first_by_bucket((y == np.repeat(lowest, counts)) & finite, starts)
    high = _first_by_bucket((y == np.repeat(highest, counts)) & finite, starts)
    return low, high, gaps


def _first_by_bucket(mask: npt.NDArray[np.bool_], starts: IntArray) -> IntArray:
    """Index of the first True of each bucket that has one."""
    hits = np.flatnonzero(mask)
    if hits.size == 0:
        return hits
    bucket = np.searchsorted(starts, hits, "right")
    return np.asarray(hits[np.append(True, bucket[1:] != bucket[:-1])])
