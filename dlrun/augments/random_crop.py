"""Pad images and cut a window of their own size at a random place.

Source: K. He, X. Zhang, S. Ren, J. Sun, Deep Residual Learning for Image Recognition, 2016, section 4.2 (4 pixels on CIFAR-10).
"""

from __future__ import annotations

from typing import Literal

from torch.nn import functional as F

from dlrun.augments._images import images, label_stays, offsets, windows
from dlrun.batch import Batch
from dlrun.noise import Noise
from dlrun.ranges import Count


def random_crop(batch: Batch, noise: Noise, *, pad: Count, fill: Literal["zero", "reflect"]) -> Batch:
    """x [B, C, H, W], moved by up to `pad` pixels either way; what comes in at the edge is zero (train's mean) or the mirrored inside."""
    x = label_stays(batch, "random_crop", images(batch, "random_crop"))
    height, width = x.shape[-2:]
    if fill == "reflect" and pad >= min(height, width):
        raise ValueError(f"augment random_crop: pad is {pad}, a {height} x {width} image can be mirrored by less than its size")
    planes = x.reshape(len(x), -1, height, width)
    padded = F.pad(planes, [pad] * 4, mode="constant" if fill == "zero" else "reflect")
    top, left = offsets(len(x), 0, 2 * pad, noise.generator("random_crop"))
    return batch.replace(x=windows(padded, top, left, height, width).view(x.shape))
