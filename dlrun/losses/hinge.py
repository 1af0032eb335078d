"""Hinge loss: what the right class lacks of a lead of `margin`; no probabilities come of it.

Source: Cortes, Vapnik 1995, "Support-Vector Networks", section 3 (two classes); Crammer, Singer 2001, "On the Algorithmic Implementation of
Multiclass Kernel-based Vector Machines", section 3 (the lead over the best other class).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.ranges import Positive
from dlrun.registry import facts
from dlrun.types import DataSpec


def _floor(spec: DataSpec, margin: float, squared: bool) -> float:
    return 0.0


def _count(y: Tensor, margin: float, squared: bool) -> Tensor | float:
    """Targets that are not masked; of 0/1 targets in floats, rows."""
    return float(len(y)) if y.is_floating_point() else (y != -100).sum()


@facts(floor=_floor, count=_count, shares=False, signed=False, margins=True)
def hinge(out: Any, y: Any, *, margin: Positive, squared: bool) -> Tensor:
    """Mean over counted targets of max(0, margin - lead), of its square where `squared`.

    out [..., C] with y [...] classes (-100: not counted): the lead is over the largest other output; out and y [B, ...] of one shape with
    y in {0, 1}: it is out for 1 and -out for 0. Raises ValueError where the shapes fit neither.
    """
    if not isinstance(out, Tensor) or not isinstance(y, Tensor) or y.shape not in (out.shape, out.shape[:-1]):
        found = [list(side.shape) if isinstance(side, Tensor) else type(side).__name__ for side in (out, y)]
        raise ValueError(f"hinge: outputs [..., C] go with classes [...], outputs [B, ...] with 0/1 targets; found {found[0]}, {found[1]}")
    if y.shape == out.shape:
        lead, counted = out * (2 * y.to(out.dtype) - 1), torch.ones_like(out, dtype=torch.bool)
    else:
        counted, true = y != -100, y.long().clamp(min=0)[..., None]
        others = out.scatter(-1, true, -torch.inf).amax(-1)
        lead = out.gather(-1, true)[..., 0] - others
    missing = (margin - lead).clamp(min=0)
    return torch.where(counted, missing.square() if squared else missing, 0.0).sum() / counted.sum().clamp(min=1)
