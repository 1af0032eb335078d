"""Mean squared error, in the square of the target's unit.

Source: Bishop 2006, "Pattern Recognition and Machine Learning", section 3.1.1.
"""

from __future__ import annotations

from typing import Any

from dlrun.functional.shapes import same_shape
from dlrun.registry import facts
from dlrun.types import Mean


@facts(best="min", reads=("numbers",), undefined="outputs or targets are nan")
def mse(out: Any, y: Any) -> Mean:
    """Mean over rows and entries of (out - y)^2; both [B, ...] of one shape, else ValueError."""
    out, y = same_shape("mse", out.double(), y)
    return Mean((out - y).square().sum(), float(y.numel()))
