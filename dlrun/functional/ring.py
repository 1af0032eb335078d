"""Gaussians on a ring: where their centres lie, and how well samples cover them.

Source: Srivastava et al. 2017, "VEEGAN", section 5.1 (2D ring: a sample is of high quality within three standard deviations of a centre;
modes captured); Metz et al. 2017, "Unrolled GANs", section 3.1 (8 Gaussians).
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor


def centres(modes: int, radius: float) -> Tensor:
    """[modes, 2], evenly around a circle, the first at (radius, 0)."""
    angles = torch.arange(modes, dtype=torch.float64) * (2 * pi / modes)
    return (radius * torch.stack((angles.cos(), angles.sin()), 1)).float()


def hits(samples: Tensor, at: Tensor, std: Tensor | float) -> Tensor:
    """How many samples [N, D] lie within three `std` (a number, or one a mode) of each centre [K, D], their nearest: [K], float64."""
    distance, nearest = torch.cdist(samples.double(), at.double()).min(1)
    limit = 3 * torch.as_tensor(std, dtype=torch.float64, device=samples.device).expand(len(at))
    inside = (distance <= limit[nearest]).double()
    return torch.zeros(len(at), dtype=torch.float64, device=samples.device).index_add_(0, nearest, inside)


def fitted(real: Tensor, modes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres [K, D] and standard deviation [K] (per axis) of labelled real rows [N, D], modes [N]; classes that occur, in order."""
    real = real.double()
    at, spread = [], []
    for mode in torch.unique(modes):
        rows = real[modes == mode]
        at.append(rows.mean(0))
        spread.append((rows - rows.mean(0)).square().sum().div(max(1, len(rows) - 1) * real.shape[1]).sqrt())
    return torch.stack(at), torch.stack(spread)


def covered(samples: Tensor, at: Tensor, std: Tensor | float, least: int) -> int:
    """How many modes have at least `least` samples within three `std` of their centre."""
    return int((hits(samples, at, std) >= least).sum())


def high_quality(samples: Tensor, at: Tensor, std: Tensor | float) -> float:
    """Share of samples within three `std` of the nearest centre."""
    return float(hits(samples, at, std).sum()) / len(samples)


def with_label(x: Tensor, y: Tensor | None) -> Tensor:
    """Points [B, D] with their label as a last column [B, D + 1]; anything else as it is."""
    if y is None or x.dim() != 2 or y.dim() != 1:
        return x
    return torch.cat((x, y.to(x.dtype)[:, None]), 1)
