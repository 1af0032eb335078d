"""Explained variance: 1 - variance of the error / variance of the targets; unlike R2 it forgives a constant offset.

Source: Draper, Smith 1998, "Applied Regression Analysis", section 1.3; several outputs: mean over them, as scikit-learn's
explained_variance_score.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dlrun.functional.shapes import explained, same_shape
from dlrun.registry import facts


@facts(best="max", whole=True, reads=("numbers",), undefined="it needs two rows, and outputs and targets that are numbers")
def explained_variance(out: Any, y: Any) -> Tensor:
    """At most 1, 0 for a constant, unbounded below; NaN of fewer than two rows.

    out and y [N, ...] of one shape, else ValueError. An output whose targets do not vary counts 1 if its error does not either, else 0.
    """
    out, y = same_shape("explained_variance", out.double(), y)
    error = y - out
    return explained(error - error.mean(0), y)
