"""Mean absolute error, in the target's unit.

Source: Willmott, Matsuura 2005, "Advantages of the mean absolute error (MAE) over the root mean square error (RMSE)", eq. 1.
"""

from __future__ import annotations

from typing import Any

from dlrun.functional.shapes import same_shape
from dlrun.registry import facts
from dlrun.types import Mean


@facts(best="min", reads=("numbers",), undefined="outputs or targets are nan")
def mae(out: Any, y: Any) -> Mean:
    """Mean over rows and entries of |out - y|; both [B, ...] of one shape, else ValueError."""
    out, y = same_shape("mae", out.double(), y)
    return Mean((out - y).abs().sum(), float(y.numel()))
