"""One cycle: up from a low rate to the full one, down again and far below where it began. For short runs at high rates.

The paper also lowers the momentum while the rate is high; here momentum stays as the optimizer has it.

Source: Smith, Topin 2018, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates", section 3, in the form of
torch.optim.lr_scheduler.OneCycleLR(cycle_momentum=False), whose names and numbers these are; the optimizer's lr is its max_lr.
"""

from __future__ import annotations

from math import cos, pi
from typing import Literal

from dlrun.ranges import Fraction, Positive


def one_cycle(
    step: int,
    steps: int,
    *,
    pct_start: Fraction,
    anneal_strategy: Literal["cos", "linear"],
    div_factor: Positive,
    final_div_factor: Positive,
    three_phase: bool,
) -> float:
    """From 1/div_factor to 1 over `pct_start` of the steps, then to 1/div_factor/final_div_factor at the last step.

    `three_phase`: the way down to 1/div_factor takes as long as the way up, what is left goes to the end. Raises ValueError where two such
    phases do not fit.
    """
    if three_phase and pct_start > 0.5:
        raise ValueError(f"three_phase needs pct_start <= 0.5: the way down is as long as the way up; found pct_start={pct_start:g}")
    low, last = 1 / div_factor, 1 / div_factor / final_div_factor
    points = [(0.0, low), (pct_start * steps - 1, 1.0)]
    points += [(2 * pct_start * steps - 2, low), (steps - 1.0, last)] if three_phase else [(steps - 1.0, last)]
    for (begin, start), (end, goal) in zip(points, points[1:], strict=False):
        if step <= end or end == steps - 1.0:
            share = (step - begin) / (end - begin) if end != begin else 1.0
            return _between(start, goal, min(1.0, max(0.0, share)), anneal_strategy)
    return last


def _between(start: float, goal: float, share: float, strategy: str) -> float:
    return start + (goal - start) * (share if strategy == "linear" else (1 - cos(pi * share)) / 2)
