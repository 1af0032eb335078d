"""Student's t: how far a mean over a few seeds may lie from the truth.

Source: Student 1908, "The probable error of a mean"; the distribution through the regularised incomplete beta function, whose continued
fraction is that of Abramowitz and Stegun 1964, 26.5.8, evaluated by Lentz's method. Imports no torch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

TINY, TERMS, CLOSE = 1e-300, 500, 1e-15


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function."""
    c, d = 1.0, 1.0 / max(1.0 - (a + b) * x / (a + 1.0), TINY)
    value = d
    for m in range(1, TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / (1.0 + term * d or TINY)
            c = 1.0 + term / c or TINY
            value *= d * c
        if abs(d * c - 1.0) < CLOSE:
            break
    return value


def _beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _fraction(a, b, x) / a
    return 1.0 - front * _fraction(b, a, 1.0 - x) / b


def tail(t: float, freedom: float) -> float:
    """P(|T| > t) for `freedom` degrees of freedom."""
    return _beta(freedom / 2.0, 0.5, freedom / (freedom + t * t))


@functools.lru_cache(maxsize=1024)
def quantile(level: float, freedom: float) -> float:
    """The t that |T| exceeds with probability 1 - level."""
    low, high = 0.0, 1.0
    while tail(high, freedom) > 1.0 - level:
        high *= 2.0
    for _ in range(200):
        middle = (low + high) / 2.0
        if middle in (low, high):  # no float lies between them
            break
        low, high = (middle, high) if tail(middle, freedom) > 1.0 - level else (low, middle)
    return (low + high) / 2.0


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """The two-sided t-interval of the mean of `values`; None for fewer than two."""
    count = len(values)
    if count < 2:
        return None
    if min(values) == max(values):
        return values[0], values[0]
    mean = math.fsum(values) / count
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = quantile(level, count - 1) * spread / math.sqrt(count)
    return mean - half, mean + half
