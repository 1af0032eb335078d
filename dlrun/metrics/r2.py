"""Coefficient of determination: the share of the targets' variance that the outputs explain.

Source: Draper, Smith 1998, "Applied Regression Analysis", section 1.3; several outputs: mean over them, as scikit-learn's r2_score.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dlrun.functional.shapes import explained, same_shape
from dlrun.registry import facts


@facts(best="max", whole=True, reads=("numbers",), undefined="it needs two rows, and outputs and targets that are numbers")
def r2(out: Any, y: Any) -> Tensor:
    """1 - residual sum of squares / total sum of squares over a whole split; at most 1, 0 for the constant mean, unbounded below.

    out and y [N, ...] of one shape, else ValueError. An output whose targets do not vary counts 1 if met exactly and 0 if not; NaN of fewer
    than two rows.
    """
    out, y = same_shape("r2", out.double(), y)
    return explained(y - out, y)
