"""Coefficient of determination: the share of the targets' variance that the outputs explain.

Source: Draper, Smith 1998, "Applied Regression Analysis", section 1.3; several outputs: mean over them, as scikit-learn's r2_score.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.functional.shapes import same_shape
from dlrun.registry import facts


@facts(best="max", whole=True)
def r2(out: Any, y: Any) -> Tensor:
    """1 - residual sum of squares / total sum of squares over a whole split; at most 1, 0 for the constant mean, unbounded below.

    out and y [N, ...] of one shape, else ValueError. An output whose targets do not vary counts 1 if met exactly and 0 if not.
    """
    out, y = same_shape("r2", out.double(), y)
    out, y = out.reshape(len(out), -1), y.reshape(len(y), -1)
    residual = (y - out).square().sum(0)
    total = (y - y.mean(0)).square().sum(0)
    constant = torch.where(residual == 0, 1.0, 0.0).to(residual.dtype)
    return torch.where(total > 0, 1 - residual / total.clamp(min=torch.finfo(total.dtype).tiny), constant).mean()
