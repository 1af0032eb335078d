"""A straight line from the full rate down to a share of it, after an optional linear warm-up.

Source: Devlin et al. 2019, "BERT", appendix A.2 (warm-up, then linear decay).
"""

from __future__ import annotations

from dlrun.functional.ramps import progress, rising
from dlrun.ranges import Fraction, Index


def linear(step: int, steps: int, *, warmup: Index, final: Fraction) -> float:
    """Rises over `warmup` steps, then 1 - (1 - final) t with t = (step - warmup) / (steps - warmup)."""
    if step < warmup:
        return rising(step, warmup)
    return 1 - (1 - final) * progress(step, steps, warmup)
