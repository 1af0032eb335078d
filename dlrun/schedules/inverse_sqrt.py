"""The inverse square root of the step, after a linear warm-up: a rate for runs whose length need not be known.

Source: Vaswani et al. 2017, "Attention Is All You Need", section 5.3, eq. 3, with the optimizer's rate as the peak in place of
width^-0.5 x warmup^-0.5.
"""

from __future__ import annotations

from math import sqrt

from dlrun.functional.ramps import rising
from dlrun.ranges import Count


def inverse_sqrt(step: int, steps: int, *, warmup: Count) -> float:
    """min(s / warmup, sqrt(warmup / s)) with s = step + 1: 1 at the last step of the warm-up, half of it after four times as many."""
    return min(rising(step, warmup), sqrt(warmup / (step + 1)))
