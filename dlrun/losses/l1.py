"""Mean absolute error, in the target's unit; its best constant is the median.

Source: Willmott, Matsuura 2005, "Advantages of the mean absolute error (MAE) over the root mean square error (RMSE)", eq. 1.
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
def l1(out: Any, y: Any) -> Tensor:
    """Mean over rows and entries of |out - y|; both [B, ...] of one shape, else ValueError (nothing is broadcast)."""
    out, y = same_shape("l1", out, y)
    return F.l1_loss(out, y)
