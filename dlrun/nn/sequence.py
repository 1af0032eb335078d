"""What networks over sequences share: rows that come with a mask, and one vector for a whole sequence.

B batch, T steps, D features. A mask [B, T] is true at real steps; padding stands at the end of a row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def unpacked(model: str, x: Any) -> tuple[Tensor, Tensor | None]:
    """(rows, mask or None) from what a network is called with: a tensor, or a pair of rows and their mask [B, T].

    Raises ValueError for anything else.
    """
    if isinstance(x, Tensor):
        return x, None
    if isinstance(x, (tuple, list)) and len(x) == 2 and all(isinstance(part, Tensor) for part in x) and x[0].shape[:2] == x[1].shape:
        return x[0], x[1].bool()
    raise ValueError(f"{model} takes a tensor, or a pair of rows [B, T, ...] and their mask [B, T]; found {_said(x)}")


def _said(x: Any) -> str:
    if isinstance(x, Tensor):
        return str(list(x.shape))
    return " and ".join(_said(part) for part in x) if isinstance(x, (tuple, list)) else type(x).__name__


def lengths(mask: Tensor) -> Tensor:
    """[B]: real steps of each row. Raises ValueError where a row has none, or padding before its end."""
    counts = mask.sum(1)
    whole = torch.arange(mask.shape[1], device=mask.device) < counts[:, None]
    if not bool((whole == mask).all()) or not bool((counts > 0).all()):
        raise ValueError("a mask [B, T] is true at the real steps, at least one a row, and padding stands at the end")
    return counts


def mean_of(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """[B, T, D] -> [B, D]: the mean over real steps."""
    if mask is None:
        return hidden.mean(1)
    weights = mask.to(hidden.dtype)[..., None]
    return (hidden * weights).sum(1) / weights.sum(1)


def last_of(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """[B, T, D] -> [B, D]: the last real step."""
    if mask is None:
        return hidden[:, -1]
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]
