"""Half a cosine from the full rate down to a share of it, after an optional linear warm-up.

Source: Loshchilov, Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts", eq. 5, one period; equal to
torch.optim.lr_scheduler.CosineAnnealingLR(T_max=steps, eta_min=final x lr) where there is no warm-up.
"""

from __future__ import annotations

from math import cos, pi

from dlrun.functional.ramps import progress, rising
from dlrun.ranges import Fraction, Index


def cosine(step: int, steps: int, *, warmup: Index, final: Fraction) -> float:
    """Rises over `warmup` steps, then final + (1 - final)(1 + cos(pi t)) / 2 with t = (step - warmup) / (steps - warmup)."""
    if step < warmup:
        return rising(step, warmup)
    return final + (1 - final) * (1 + cos(pi * progress(step, steps, warmup))) / 2
