"""Expected calibration error: the gap between confidence (probability of the predicted class) and accuracy, bin by bin.

Source: Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", eq. 2 and 3; bins ((m - 1) / M, m / M].
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.functional.classes import as_rows, hard
from dlrun.ranges import Count
from dlrun.registry import facts
from dlrun.types import Mean


def _gaps(sums: Tensor, count: Tensor) -> float:
    confidence, right = sums
    return float((confidence - right).abs().sum() / count) if count else float("nan")


@facts(best="min", batches=False, reads=("classes", "labels"), logits=True, probabilities=True, undefined="no target is counted")
def calibration_error(out: Tensor, y: Tensor, kind: str | None = None, *, bins: Count) -> Mean:
    """Mean over counted targets of |accuracy - mean confidence| of their bin, in [0, 1]; shapes as in `accuracy`.

    One logit a row is read as two classes (confidence from 1/2 on), so that it gives the same as two logits. Whole splits only: in a
    training batch a bin holds a few rows, whose gap is noise.
    """
    logits, true = as_rows(out, y, kind)
    confidence, predicted = logits.softmax(1).max(1)
    place = (torch.ceil(confidence * bins).long() - 1).clamp(0, bins - 1)
    zeros = torch.zeros(bins, dtype=torch.float64, device=confidence.device)
    sums = torch.stack([zeros.index_add(0, place, side.double()) for side in (confidence, predicted == hard(true))])
    return Mean(sums, float(len(true)), _gaps)
