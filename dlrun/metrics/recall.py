"""Recall: of a class's rows, the share that was given to it; macro over all classes is also called balanced accuracy.

Source: Sokolova, Lapalme 2009, "A systematic analysis of performance measures for classification tasks", table 1.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from dlrun.metrics._averages import averaged
from dlrun.registry import facts
from dlrun.types import Mean


def _of_class(right: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
    return right / actual.clamp(min=1)


@facts(best="max", batches=False, reads=("classes", "labels"), logits=True, undefined="no target is counted")
def recall(out: Tensor, y: Tensor, kind: str | None = None, *, average: Literal["macro", "weighted", "micro", "binary"]) -> Mean:
    """Recall in [0, 1] over a whole split; shapes as in `accuracy`; of several labels a row each is a class.

    0 for a class that is predicted and never occurs. Raises ValueError for `binary` where there are not two classes.
    """
    return averaged("recall", _of_class, out, y, kind, average)
