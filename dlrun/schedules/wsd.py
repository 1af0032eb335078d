"""Warm-up, stable, decay: the full rate for most of the run, falling at its end alone, so that a run can be prolonged before its decay.

Source: Hu et al. 2024, "MiniCPM", section 4.2; Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
Durations", section 3 (shapes `linear` and `sqrt`, share of the decay).
"""

from __future__ import annotations

from math import cos, pi, sqrt
from typing import Literal

from dlrun.functional.ramps import progress, rising
from dlrun.ranges import Fraction, Index


def wsd(step: int, steps: int, *, warmup: Index, decay: Fraction, shape: Literal["linear", "cosine", "sqrt"], final: Fraction) -> float:
    """Rises over `warmup` steps, stays at 1, and over the last round(decay x steps) falls to `final`, reached after the last step.

    With t the share of the decay that is done, it is final + (1 - final) x (1 - t, (1 + cos(pi t)) / 2 or 1 - sqrt(t)). A warm-up that
    reaches into the decay shortens it.
    """
    if step < warmup:
        return rising(step, warmup)
    begin = max(warmup, steps - round(decay * steps))
    if step < begin:
        return 1.0
    done = progress(step, steps, begin)
    left = {"linear": 1 - done, "cosine": (1 + cos(pi * done)) / 2, "sqrt": 1 - sqrt(done)}[shape]
    return final + (1 - final) * left
