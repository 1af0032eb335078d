"""Recall of the class that is recognised worst: what a high accuracy can hide where classes are unequal.

Source: Sokolova, Lapalme 2009, "A systematic analysis of performance measures for classification tasks", table 1 (recall).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.functional.classes import decide
from dlrun.registry import facts
from dlrun.types import Mean


def _least(correct: Tensor, count: Tensor) -> float:
    seen = count > 0
    return float((correct[seen] / count[seen]).min()) if seen.any() else float("nan")


@facts(best="max", batches=False)
def worst_recall(out: Tensor, y: Tensor) -> Mean:
    """Least share in [0, 1] of a class's rows that were recognised, over the classes that occur; shapes as in `accuracy`.

    Not taken of training batches: with a few rows a class it would be the noise of one row.
    """
    classes = out.shape[-1] if out.dim() > y.dim() or (out.dim() == y.dim() > 1 and out.shape[-1] > 1) else 2
    predicted, y = decide(out, y)
    y = y.reshape(-1).long()
    right = (predicted.reshape(-1) == y).to(torch.float64)
    # Uncounted targets (below 0) go to a bin of their own, which is cut off: no boolean index, hence no wait for the device.
    bins = torch.where(y < 0, classes, y)
    count = torch.zeros(classes + 1, dtype=torch.float64, device=y.device).index_add_(0, bins, torch.ones_like(right))
    correct = torch.zeros_like(count).index_add_(0, bins, right)
    return Mean(correct[:classes], count[:classes], _least)
