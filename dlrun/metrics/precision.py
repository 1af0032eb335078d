"""Precision: of the rows given to a class, the share that belongs to it.

Source: Sokolova, Lapalme 2009, "A systematic analysis of performance measures for classification tasks", table 1.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from dlrun.metrics._averages import averaged
from dlrun.registry import facts
from dlrun.types import Mean


def _of_class(right: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
    return right / predicted.clamp(min=1)


@facts(best="max", batches=False, reads=("classes", "labels"), logits=True, undefined="no target is counted")
def precision(out: Tensor, y: Tensor, kind: str | None = None, *, average: Literal["macro", "weighted", "micro", "binary"]) -> Mean:
    """Precision in [0, 1] over a whole split; shapes as in `accuracy`; of several labels a row each is a class.

    0 for a class that occurs and is never predicted. Raises ValueError for `binary` where there are not two classes.
    """
    return averaged("precision", _of_class, out, y, kind, average)
