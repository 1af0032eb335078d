"""Closed forms that schedules share: how far a run has come, and the linear warm-up that precedes most of them.

Source of the warm-up: Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.2.
"""

from __future__ import annotations


def rising(step: int, warmup: int) -> float:
    """1/warmup at step 0, one step's share more each step, 1 from step warmup - 1 on: no step is lost to a rate of zero."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def progress(step: int, steps: int, warmup: int) -> float:
    """Share in [0, 1] of the steps after the warm-up that lie before `step`; 0 at its end, 1 only at `steps`, after the last step."""
    return min(1.0, max(0.0, (step - warmup) / max(1, steps - warmup)))
