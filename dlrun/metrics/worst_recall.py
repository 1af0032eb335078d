"""Recall of the class that is recognised worst: what a high accuracy can hide where classes are unequal.

Source: Sokolova, Lapalme 2009, "A systematic analysis of performance measures for classification tasks", table 1 (recall).
"""

from __future__ import annotations

from torch import Tensor

from dlrun.functional.classes import tally
from dlrun.registry import facts
from dlrun.types import Mean


def _least(right: Tensor, actual: Tensor) -> float:
    seen = actual > 0
    return float((right[seen] / actual[seen]).min()) if seen.any() else float("nan")


@facts(best="max", batches=False, reads=("classes", "labels"), logits=True, undefined="no target is counted")
def worst_recall(out: Tensor, y: Tensor, kind: str | None = None) -> Mean:
    """Least share in [0, 1] of a class's rows that were recognised, over the classes that occur; shapes as in `accuracy`.

    Of several labels a row each is a class. Not taken of training batches: with a few rows a class it would be the noise of one row.
    """
    right, _, actual = tally(out, y, kind)
    return Mean(right, actual, _least)
