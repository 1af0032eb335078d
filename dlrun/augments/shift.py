"""Move images by whole pixels around the edges, as on a torus: keeps every pixel value, changes only where it stands.

Source: standard practice; circular shifts are the symmetry that a convolution with circular padding commutes with.
"""

from __future__ import annotations

from dlrun.augments._images import images, label_stays, offsets, windows
from dlrun.batch import Batch
from dlrun.noise import Noise
from dlrun.ranges import Count


def shift(batch: Batch, noise: Noise, *, pixels: Count) -> Batch:
    """x [B, ..., H, W], each row moved by up to `pixels` lines and columns either way; what leaves on one side enters on the other."""
    x = label_stays(batch, "shift", images(batch, "shift"))
    height, width = x.shape[-2:]
    top, left = offsets(len(x), -pixels, pixels, noise.generator("shift"))
    return batch.replace(x=windows(x.reshape(len(x), -1, height, width), top, left, height, width).view(x.shape))
