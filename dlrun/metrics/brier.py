"""Brier score: squared distance between predicted probabilities and what happened; it pays to say what one believes.

Source: Brier 1950, "Verification of forecasts expressed in terms of probability", eq. 2; halved for two classes, so that it is the squared
error of the probability of class 1, as scikit-learn's brier_score_loss.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dlrun.functional.classes import as_rows
from dlrun.registry import facts
from dlrun.types import Mean


@facts(best="min", soft=True, reads=("classes", "labels"), logits=True, probabilities=True, undefined="no target is counted")
def brier(out: Tensor, y: Tensor, kind: str | None = None) -> Mean:
    """Mean over counted targets of sum_c (p_c - y_c)^2 in [0, 2]; for two classes half of it, in [0, 1]. Shapes as in `accuracy`."""
    logits, true = as_rows(out, y, kind)
    target = true if true.dim() == 2 else F.one_hot(true, logits.shape[1]).double()
    squares = (logits.softmax(1) - target).square().sum()
    return Mean(squares / 2 if logits.shape[1] == 2 else squares, float(len(true)))
