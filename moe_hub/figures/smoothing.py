"""Smoothing and trend of a noisy curve, over all rows and before anything is left out for drawing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_NEGLIGIBLE = 1e-17  # a weight below this changes no double
_T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def smooth(values: npt.ArrayLike, weight: float) -> FloatArray:
    """Debiased exponential moving average (S,), one step of it per row.

    y_t = sum_j w^j x_(t-j) / sum_j w^j over the finite x: the bias correction of Adam (Kingma and Ba 2015,
    section 3), so the first value is x_0 and not a share of it. Rows that are not finite stay NaN and are passed
    over. The recursion is summed by doubling: after pass k each entry holds the last 2^k rows.
    """
    x = np.asarray(values, dtype=np.float64)
    if weight <= 0 or x.size == 0:
        return np.where(np.isfinite(x), x, np.nan)
    finite = np.isfinite(x)
    if finite.all():
        share = -np.expm1(np.arange(1, x.size + 1) * math.log(weight)) / (1 - weight)
        return _without_noise(x, _decayed_sum(x, weight) / share)
    total = _decayed_sum(np.where(finite, x, 0.0), weight)
    share = _decayed_sum(finite.astype(np.float64), weight)
    return np.where(finite, _without_noise(x, total / np.where(finite, share, 1.0)), np.nan)


def _without_noise(x: FloatArray, average: FloatArray) -> FloatArray:
    """A constant stays one: rounding in its average would be drawn as noise on an axis of its own size."""
    return np.where(np.abs(average - x) <= 1e-12 * np.abs(x), x, average)


def _decayed_sum(x: FloatArray, weight: float) -> FloatArray:
    """sum_j weight^j x_(t-j), (S,)."""
    total = x.copy()
    span, factor = 1, weight
    while span < total.size and factor > _NEGLIGIBLE:
        total[span:] += factor * total[:-span]  # the product is a copy, so nothing is read after it changed
        span, factor = 2 * span, factor * factor
    return total


@dataclass(frozen=True)
class Trend:
    """A straight line through a curve: value `level` at `centre`, `slope` per unit of x, and half of the 95 %
    interval of the slope. `rows` is how many values it used."""

    centre: float
    level: float
    slope: float
    margin: float
    rows: int

    def at(self, x: npt.ArrayLike) -> FloatArray:
        """Height of the line."""
        return self.level + self.slope * (np.asarray(x, dtype=np.float64) - self.centre)


def trend(x: npt.ArrayLike, y: npt.ArrayLike) -> Trend | None:
    """Least squares line with an interval that allows for the likeness of neighbouring rows; None below 5 values.

    Residuals of a loss curve are correlated, so n rows tell less than n: the number of independent ones is taken as
    n (1 - r) / (1 + r), r the lag-1 autocorrelation of the residuals where positive (Bartlett 1935; Santer et al.
    2000, eq. 6), and the interval is Student's t with that many values less two.
    """
    at, height = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    kept = np.isfinite(at) & np.isfinite(height)
    at, height = at[kept], height[kept]
    if at.size < 5 or at[-1] == at[0]:
        return None
    centre, level = float(at.mean()), float(height.mean())
    dx, dy = at - centre, height - level
    spread = float(dx @ dx)
    slope = float(dx @ dy) / spread
    residual = dy - slope * dx
    square = float(residual @ residual)
    r = max(0.0, float(residual[1:] @ residual[:-1]) / square) if square > 0 else 0.0
    independent = max(3.0, at.size * (1 - r) / (1 + r))
    error = math.sqrt(square / (independent - 2) / spread)
    return Trend(centre, level, slope, student_975(independent - 2) * error, at.size)


def student_975(freedom: float) -> float:
    """The 97.5 % point of Student's t: a table to 30, then the first terms of its expansion about the normal."""
    if freedom < len(_T_975) + 1:
        low = max(1, math.floor(freedom))
        high = min(len(_T_975), low + 1)
        return _T_975[low - 1] + (_T_975[high - 1] - _T_975[low - 1]) * max(0.0, min(1.0, freedom - low))
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
