"""Linear warm-up, constant afterwards.

Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", section 2.2.
"""

from __future__ import annotations

from dlrun.functional.ramps import rising
from dlrun.ranges import Index


def warmup(step: int, steps: int, *, warmup: Index) -> float:
    """(step + 1) / warmup over the first `warmup` steps, then 1."""
    return rising(step, warmup)
