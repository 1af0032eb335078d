"""How far rows of tokens can be learned by heart from each token alone, as a network without layers between positions does."""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.batch import Batch


def alone(batch: Batch) -> float | None:
    """Entropy in nats of y given the token of x at its position, over the rows asked; None where x and y are no tokens [B, T] alike.

    x, y [B, T] whole numbers; y < 0 is not counted. No function of a single token has a lower cross-entropy on these rows.
    """
    x, y = batch.get("x"), batch.get("y")
    if (
        not isinstance(x, Tensor)
        or not isinstance(y, Tensor)
        or x.shape != y.shape
        or x.dim() != 2
        or x.is_floating_point()
        or y.is_floating_point()
    ):
        return None
    counted = y >= 0
    if not bool(counted.any()):
        return None
    _, pairs = torch.stack([x[counted].long(), y[counted].long()]).unique(dim=1, return_counts=True)
    _, tokens = x[counted].long().unique(return_counts=True)
    total = pairs.sum()
    shares = (pairs / total).double(), (tokens / total).double()
    joint, first = (-(share * share.log()).sum() for share in shares)
    return float(joint - first)
