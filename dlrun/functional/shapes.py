"""Refusal of shapes that broadcasting would silently accept: [B, 1] against [B] gives [B, B] and a loss that means something else."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def same_shape(part: str, out: Any, y: Any) -> tuple[Tensor, Tensor]:
    """(out, y as out's dtype) if both are tensors of one shape; ValueError naming `part` and both shapes otherwise."""
    if not isinstance(out, Tensor) or not isinstance(y, Tensor):
        raise ValueError(f"{part} takes one tensor of outputs and one of targets; found {type(out).__name__} and {type(y).__name__}")
    if out.shape != y.shape:
        raise ValueError(
            f"{part}: outputs {list(out.shape)} and targets {list(y.shape)} must have one shape, or broadcasting would pair wrong rows: "
            "mend the network's last layer or the dataset's targets"
        )
    return out, y if y.dtype == out.dtype else y.to(out.dtype)
