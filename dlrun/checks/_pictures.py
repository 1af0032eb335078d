"""How smooth pictures are along their axes: neighbours in a natural picture are alike, pixels in random order are not."""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 128


def roughness(x: Tensor) -> float:
    """The mean of `rough` over height and width of pictures [N, C, H, W]."""
    return (rough(x, -1) + rough(x, -2)) / 2


def rough(x: Tensor, axis: int) -> float:
    """Mean difference of neighbours along `axis`, in units of that of random pairs of values of one picture: about 1 without any order.

    NaN where pictures are blank.
    """
    x = x[:MOST].detach().cpu().float()
    flat = x.reshape(len(x), -1)
    order = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(0))
    mixed = float((flat[:, order] - flat[:, order.roll(1)]).abs().mean())
    size = x.shape[axis]
    if size < 2 or mixed <= 0:
        return float("nan")
    return float((x.narrow(axis, 1, size - 1) - x.narrow(axis, 0, size - 1)).abs().mean()) / mixed


def alike(x: Tensor, axis: int) -> tuple[float, float]:
    """(mean over pictures [N, C, H, W] of how neighbours along `axis` correlate in each channel, its standard error)."""
    x = x[:MOST].detach().cpu().float()
    x = x - x.mean((-1, -2), keepdim=True)
    size = x.shape[axis]
    product = (x.narrow(axis, 1, size - 1) * x.narrow(axis, 0, size - 1)).flatten(1).sum(1) * size / (size - 1)
    found = product / x.square().flatten(1).sum(1).clamp(min=1e-12)
    return float(found.mean()), float(found.std() / len(found) ** 0.5)
