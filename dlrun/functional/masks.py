"""A `mask` that stands beside x in a batch: of y's first axes it says which targets count, else which steps or nodes of x there are.

Only a network that says so (`takes_mask = True`: rnn, lstm, gru, transformer, gnn, or one's own) is given the second kind.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.errors import UsageError


def counts_targets(mask: Any, y: Any) -> bool:
    """Whether `mask` is bool and has y's first axes, so that it says which targets count."""
    return isinstance(mask, Tensor) and isinstance(y, Tensor) and mask.dtype == torch.bool and y.shape[: mask.dim()] == mask.shape


def of_inputs(mask: Any, x: Any) -> bool:
    """Whether `mask` is bool and has the first two axes of x, or of its first tensor: steps or nodes."""
    while isinstance(x, (tuple, list, dict)) and x:
        x = next(iter(x.values())) if isinstance(x, dict) else x[0]
    both = isinstance(mask, Tensor) and isinstance(x, Tensor)
    return both and mask.dtype == torch.bool and mask.dim() == 2 and x.shape[:2] == mask.shape


def network_input(net: Any, batch: Batch, task: str) -> Any:
    """x, with the mask where it is x's and the network takes it: (x, mask), or among the entries of a tuple or dict.

    Raises UsageError for a mask that is neither the targets' nor one that this network takes.
    """
    x, mask, y = batch["x"], batch.get("mask"), batch.get("y")
    if mask is None or y is None or counts_targets(mask, y):
        return x
    takes = getattr(net, "takes_mask", False)
    if not takes or not of_inputs(mask, x):
        raise UsageError(_refusal(task, mask, y, takes))
    if isinstance(x, dict):
        return {**x, "mask": mask} if "mask" not in x else x
    return (*x, mask) if isinstance(x, (tuple, list)) else (x, mask)


def _refusal(task: str, mask: Any, y: Any, takes: bool) -> str:
    found = f"{list(mask.shape)} {str(mask.dtype).removeprefix('torch.')}" if isinstance(mask, Tensor) else type(mask).__name__
    targets = list(y.shape) if isinstance(y, Tensor) else type(y).__name__
    steps = "" if takes else " (this network takes none: one that does says takes_mask = True and is called with (x, mask))"
    return (
        f"task {task} takes mask, bool, as which targets count (first axes of y, {targets}) or which steps of x there are{steps}; "
        f"found {found}: give it another name if it means something else"
    )
