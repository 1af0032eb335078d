"""Gaussian noise on the inputs, whatever their shape.

Source: C. M. Bishop, Training with Noise is Equivalent to Tikhonov Regularization, 1995, section 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.noise import Noise
from dlrun.ranges import NonNegative


def noise(batch: Batch, noise: Noise, *, std: NonNegative) -> Batch:
    """x [B, ...] floating, plus independent normal numbers of mean 0 and standard deviation `std`, in units of x."""
    x = batch["x"]
    if not isinstance(x, Tensor) or not x.is_floating_point():
        found = str(x.dtype).removeprefix("torch.") if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"augment noise adds to rows of floating-point numbers; x is {found}: leave noise out")
    if std == 0:
        return batch
    drawn = torch.randn(x.shape, generator=noise.generator("noise", x.device), device=x.device, dtype=x.dtype)
    return batch.replace(x=x + std * drawn)
