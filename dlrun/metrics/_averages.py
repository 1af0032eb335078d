"""How precision, recall and F1 become one number: counted for each class over a whole split, then averaged over classes.

Source: Sokolova, Lapalme 2009, "A systematic analysis of performance measures for classification tasks", table 3; averages and undefined
parts as in scikit-learn with zero_division=0, over the classes that occur in targets or predictions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor

from dlrun.functional.classes import form, tally
from dlrun.types import Mean

Average = Literal["macro", "weighted", "micro", "binary"]
Formula = Callable[[Tensor, Tensor, Tensor], Tensor]


def averaged(name: str, formula: Formula, out: Tensor, y: Tensor, kind: str | None, average: str) -> Mean:
    """`formula(right, predicted, actual)` of each class's counts, averaged; NaN where nothing is counted.

    Raises ValueError for `binary` where there are not two classes.
    """
    counts = tally(out, y, kind)
    several = form(out, y, kind) == "labels" and y.dim() > 1 and y.shape[-1] > 1
    if average == "binary" and (counts.shape[1] != 2 or several):
        what = "labels a row" if several else "classes"
        raise ValueError(f"{name}: average=binary is for two classes, these are {counts.shape[1]} {what}: say macro, micro or weighted")
    return Mean(counts, counts[2].sum(), partial(_finish, formula, average))


def _finish(formula: Formula, average: str, counts: Tensor, _: Tensor) -> float:
    right, predicted, actual = counts.sum(1, keepdim=True) if average == "micro" else counts
    value, seen = formula(right, predicted, actual), predicted + actual > 0
    if not seen.any():
        return float("nan")
    if average == "binary":
        return float(value[1])
    if average == "weighted":
        return float((value * actual).sum() / actual.sum())
    return float(value[seen].mean())
