"""Weights of classes: from a list, or from how often each class occurs in the training data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

Weights = Sequence[float] | Literal["balanced"] | None


def class_weights(loss: str, weight: Weights, class_counts: Sequence[int] | None, like: Tensor) -> Tensor | None:
    """One weight a class, as `as_tensor` gives it, or None; `balanced` is rows / (classes x rows of the class).

    Source of `balanced`: King, Zeng 2001, "Logistic Regression in Rare Events Data", section 5.1 (weights that make the classes equal).
    Raises ValueError where counts are unknown or a class does not occur.
    """
    if not isinstance(weight, str):
        return as_tensor(weight, like)
    if class_counts is None:
        raise ValueError(f"{loss}: weight=balanced needs whole-number classes that are in memory: give a list, one weight a class")
    absent = [number for number, count in enumerate(class_counts) if not count]
    if absent:
        raise ValueError(f"{loss}: weight=balanced, but class {absent[0]} does not occur in train: give a list, one weight a class")
    rows = sum(class_counts)
    return as_tensor([rows / (len(class_counts) * count) for count in class_counts], like)


def as_tensor(values: Sequence[float] | None, like: Tensor) -> Tensor | None:
    """`values` on the device of `like`, in its dtype (float64 where that is whole numbers); None stays None."""
    if values is None:
        return None
    return _kept(tuple(values), like.dtype if like.is_floating_point() else torch.float64, like.device)


@lru_cache(maxsize=16)
def _kept(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Kept, for a copy to a device every step would make each step wait."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
