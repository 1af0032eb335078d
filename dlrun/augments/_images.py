"""What augmentations of images share: the check that there are images, and a window at a place of its own for each row."""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.batch import Batch


def images(batch: Batch, name: str) -> Tensor:
    """x [B, ..., H, W] of `batch`; ValueError where it is no batch of images."""
    x = batch["x"]
    if not isinstance(x, Tensor) or x.dim() < 3 or not x.is_floating_point():
        found = f"{tuple(x.shape[1:])} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"augment {name} needs images, float rows of shape (..., H, W); found {found}")
    return x


def windows(x: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """[B, C, height, width] of x [B, C, H, W]: row b from line top[b] and column left[b] on, around the edges where it reaches beyond."""
    lines = (top[:, None] + torch.arange(height)).remainder(x.shape[2]).to(x.device)
    columns = (left[:, None] + torch.arange(width)).remainder(x.shape[3]).to(x.device)
    rows = torch.arange(len(x), device=x.device)[:, None, None, None]
    channels = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return x[rows, channels, lines[:, None, :, None], columns[:, None, None, :]]


def offsets(rows: int, low: int, high: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two whole numbers in low..high for each row, equally likely."""
    drawn = torch.randint(low, high + 1, (2, rows), generator=generator)
    return drawn[0], drawn[1]
