"""Mean squared error, in the square of the target's unit.

Source: Bishop 2006, "Pattern Recognition and Machine Learning", section 3.1.1.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dlrun.functional.shapes import same_shape
from dlrun.registry import facts
from dlrun.types import DataSpec


def _floor(spec: DataSpec) -> float:
    return 0.0


@facts(floor=_floor, kind="regression")
def mse(out: Any, y: Any) -> Tensor:
    """Mean over rows and entries of (out - y)^2; both [B, ...] of one shape, else ValueError (nothing is broadcast)."""
    out, y = same_shape("mse", out, y)
    return F.mse_loss(out, y)
