"""Cutout: a square of each image is blanked at a random place, partly outside the image at times.

Source: T. DeVries, G. W. Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017, section 3.2.
"""

from __future__ import annotations

import torch

from dlrun.augments._images import boxes, images
from dlrun.batch import Batch
from dlrun.noise import Noise
from dlrun.ranges import Count


def cutout(batch: Batch, noise: Noise, *, size: Count, fill: float) -> Batch:
    """x [B, ..., H, W] with `fill` in a square of `size` pixels of each row, all channels alike; its centre is any pixel of the image."""
    x = images(batch, "cutout")
    side = torch.full((len(x),), size)
    inside = boxes(noise.generator("cutout"), side, side, x.shape[-2], x.shape[-1])
    return batch.replace(x=x.masked_fill(inside.to(x.device).view(len(x), *[1] * (x.dim() - 3), *x.shape[-2:]), fill))
