"""Mirror images, each with probability p.

Source: A. Krizhevsky, I. Sutskever, G. Hinton, ImageNet Classification with Deep Convolutional Neural Networks, 2012, section 4.1.
"""

from __future__ import annotations

from typing import Literal

import torch

from dlrun.augments._images import images, label_stays
from dlrun.batch import Batch
from dlrun.noise import Noise
from dlrun.ranges import Fraction


def flip(batch: Batch, noise: Noise, *, p: Fraction, axis: Literal["horizontal", "vertical"]) -> Batch:
    """x [B, ..., H, W] with about a share `p` of its rows mirrored left to right (`horizontal`) or upside down (`vertical`)."""
    x = label_stays(batch, "flip", images(batch, "flip"))
    chosen = torch.rand(len(x), generator=noise.generator("flip")) < p
    mirrored = x.flip(-1 if axis == "horizontal" else -2)
    return batch.replace(x=torch.where(chosen.to(x.device).view(-1, *[1] * (x.dim() - 1)), mirrored, x))
