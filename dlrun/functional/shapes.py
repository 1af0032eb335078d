"""Outputs and targets of one shape. Broadcasting would silently accept others: [B, 1] against [B] gives [B, B] and another loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def same_shape(part: str, out: Any, y: Any) -> tuple[Tensor, Tensor]:
    """(out, y as out's dtype) if both are tensors of one shape; ValueError naming `part` and both shapes otherwise."""
    if not isinstance(out, Tensor) or not isinstance(y, Tensor):
        raise ValueError(f"{part} takes one tensor of outputs and one of targets; found {type(out).__name__} and {type(y).__name__}")
    if out.shape != y.shape:
        raise ValueError(
            f"{part}: outputs {list(out.shape)} and targets {list(y.shape)} must have one shape, or broadcasting would pair wrong rows: "
            "mend the network's last layer or the dataset's targets"
        )
    return out, y if y.dtype == out.dtype else y.to(out.dtype)


def explained(error: Tensor, y: Tensor) -> Tensor:
    """1 - sum of squared errors / sum of squares of y about its mean, the mean over outputs; error and y float64 [N, ...].

    1 or 0 for an output whose y does not vary; NaN of fewer than two rows.
    """
    if len(y) < 2:
        return torch.tensor(float("nan"))
    left, total = error.reshape(len(y), -1).square().sum(0), (y - y.mean(0)).reshape(len(y), -1).square().sum(0)
    constant = torch.where(left == 0, 1.0, 0.0).to(left.dtype)
    share = torch.where(total > 0, 1 - left / total.clamp(min=torch.finfo(total.dtype).tiny), constant)
    return torch.where(total.isnan() | left.isnan(), torch.nan, share).mean()
