"""How low the loss can get with outputs of a form, beside outputs that are free: both are sought by descending the loss itself.

No targets need to be known, nor what the loss makes of them: a rate that never falls below 0 given to a loss that takes its logarithm
reaches no expectation below 1; pixels from 0 to 1 reach none of the negative ones. Each number of the outputs takes steps of its own size
(Riedmiller and Braun 1993), so that losses of any scale are descended alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dlrun.checks._downhill import descended
from dlrun.checks._forms import Form
from dlrun.checks._probe import Probe

STEPS = 80
GRID = 41


@dataclass(frozen=True)
class Reach:
    """Least losses of outputs of a form (`mine`), of free ones (`least`), of equal ones of the form (`idle`); share of free ones beyond."""

    mine: float
    least: float
    idle: float
    beyond: float

    @property
    def lost(self) -> float:
        """The share of what there is to gain over equal outputs that outputs of the form cannot gain."""
        return (self.mine - self.least) / max(self.idle - self.least, 1e-30)


def reach(asked: Probe, shape: Form) -> Reach | None:
    """How much of the loss is out of reach; None where the loss takes nothing but outputs of this form, or has no lowest point outside."""
    if not asked.steady:
        return None
    size = shape.high - shape.low if math.isfinite(shape.high - shape.low) else max(1.0, float(asked.out.abs().max()))
    start = shape.of(torch.zeros_like(asked.out))
    mine, free = _descended(asked, start, size, shape), _descended(asked, start, size, None)
    if mine is None or free is None:
        return None
    low, high = shape.low - 0.1 * size, shape.high + 0.1 * size
    least, further = asked.at(free), asked.at(start + 10 * (free - start))
    idle = _idle(asked, shape, size)
    # A loss of probabilities or rates that is defined beyond them by chance falls there for ever.
    if idle is None or not math.isfinite(least) or further < least - 0.1 * abs(idle - least) or idle - least < 1e-3 * abs(idle):
        return None
    if 0 <= asked.at(mine) <= 0.05 * idle and least < 0:  # an overlap of shares (Dice) is 0 at best, below that its formula has no meaning
        return None
    return Reach(asked.at(mine), least, idle, float(((free < low) | (free > high)).float().mean()))


def _descended(asked: Probe, start: Tensor, size: float, shape: Form | None) -> Tensor | None:
    """Outputs after a descent of the loss, kept within a form where one is given; None where the loss is not defined there."""
    z = descended(asked, start, (0.05 * size, 5 * size), STEPS, within=shape)
    return z if z is not None and math.isfinite(asked.at(z)) else None


def _idle(asked: Probe, shape: Form, size: float) -> float | None:
    """The least loss of equal outputs of the form."""
    ends = (shape.low, shape.high if math.isfinite(shape.high) else shape.low + 5 * size)
    costs = []
    for value in torch.linspace(*ends, GRID).tolist():
        try:
            costs.append(asked.at(torch.full_like(asked.out, value)))
        except Exception:  # the ends of a range may be refused
            continue
    return min((cost for cost in costs if math.isfinite(cost)), default=None)
