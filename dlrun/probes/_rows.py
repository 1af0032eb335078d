"""What several probes need of a classifier or another task with one loss: its outputs, its loss, and which rows it gets right."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dlrun.batch import Batch
from dlrun.functional.classes import decide
from dlrun.task import LossTask
from dlrun.trained import Trained


def loss_task(run: Trained) -> LossTask:
    """The run's task, which has one loss over outputs. Raises ValueError for another (several players)."""
    if isinstance(run.task, LossTask):
        return run.task
    raise ValueError(f"needs a task with one loss over outputs; task {run.config['task']['name']} has objectives of its own")


def loss_of(task: LossTask, outputs: Any, batch: Batch) -> Tensor:
    """The loss, without its terms."""
    found = task.loss(outputs, batch)
    return found[0] if isinstance(found, tuple) else found


def right(task: LossTask, outputs: Any, batch: Batch) -> Tensor:
    """Which rows [B] are classified right. Raises ValueError where targets are no classes, one a row."""
    out, y, _ = task.compared(outputs, batch)
    if not isinstance(y, Tensor) or y.dim() != 1 or not isinstance(out, Tensor):
        raise ValueError(
            f"needs a classifier, one class a row; found targets {list(y.shape) if isinstance(y, Tensor) else type(y).__name__}"
        )
    if y.is_floating_point() and not bool(((y == 0) | (y == 1)).all()):
        raise ValueError("needs a classifier, one class a row; found targets that are numbers")
    predicted, true = decide(out, y, getattr(task, "kind", None))
    return predicted == true
