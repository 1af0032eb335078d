"""Huber's loss: half the square of small errors, a straight line for large ones, joined smoothly.

Source: Huber 1964, "Robust Estimation of a Location Parameter", section 3 (its rho, with k = delta).
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dlrun.functional.shapes import same_shape
from dlrun.ranges import Positive
from dlrun.registry import facts
from dlrun.types import DataSpec


def _floor(spec: DataSpec, delta: float) -> float:
    return 0.0


@facts(floor=_floor, kind="regression")
def huber(out: Any, y: Any, *, delta: Positive) -> Tensor:
    """Mean of e^2 / 2 where |e| <= delta, of delta (|e| - delta / 2) beyond, e = out - y; both [B, ...] of one shape, else ValueError."""
    out, y = same_shape("huber", out, y)
    return F.huber_loss(out, y, delta=delta)
