"""Macro F1: the harmonic mean of precision and recall of each class, averaged over classes.

Source: Sokolova, Lapalme 2009, "A systematic analysis of performance measures for classification tasks", table 3; averaged over classes
that occur in targets or predictions, as scikit-learn's f1_score(average="macro", zero_division=0).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.functional.classes import decide
from dlrun.registry import facts


@facts(best="max", whole=True)
def f1(out: Tensor, y: Tensor) -> Tensor:
    """Macro F1 in [0, 1] over a whole split; shapes as in `accuracy`, targets below 0 are not counted."""
    predicted, y = decide(out, y)
    predicted, y = predicted.reshape(-1).long(), y.reshape(-1).long()
    predicted, y = predicted[y >= 0], y[y >= 0]
    if not len(y):
        return torch.tensor(float("nan"))
    classes = int(torch.maximum(predicted.max(), y.max())) + 1
    right = torch.bincount(y[predicted == y], minlength=classes).double()
    # 2 TP / (2 TP + FP + FN): the denominator counts how often a class was predicted plus how often it occurs.
    either = torch.bincount(y, minlength=classes) + torch.bincount(predicted, minlength=classes)
    seen = either > 0
    return (2 * right[seen] / either[seen]).mean()
