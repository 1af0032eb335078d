"""Root of the mean squared error, in the target's unit.

Source: Willmott, Matsuura 2005, "Advantages of the mean absolute error (MAE) over the root mean square error (RMSE)", eq. 2.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dlrun.functional.shapes import same_shape
from dlrun.registry import facts
from dlrun.types import Mean


def _root(total: Tensor, count: Tensor) -> float:
    return float((total / count).sqrt()) if count else float("nan")


@facts(best="min", reads=("numbers",), undefined="outputs or targets are nan")
def rmse(out: Any, y: Any) -> Mean:
    """Root of the mean of (out - y)^2 over all rows and entries of a split; both [B, ...] of one shape, else ValueError."""
    out, y = same_shape("rmse", out.double(), y)
    return Mean((out - y).square().sum(), float(y.numel()), _root)
