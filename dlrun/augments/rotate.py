"""Turn images about their centre by a random angle, with bilinear interpolation.

Source: M. Jaderberg, K. Simonyan, A. Zisserman, K. Kavukcuoglu, Spatial Transformer Networks, 2015, eq. 1 and 5 (affine grid, bilinear
sampling); as an augmentation P. Y. Simard, D. Steinkraus, J. C. Platt, Best Practices for Convolutional Neural Networks, 2003, section 2.
"""

from __future__ import annotations

from typing import Literal

import torch

from dlrun.augments._images import images, label_stays, resample
from dlrun.augments._ranges import always, drawn, ordered
from dlrun.batch import Batch
from dlrun.noise import Noise


def rotate(batch: Batch, noise: Noise, *, degrees: tuple[float, float], fill: Literal["zero", "edge", "reflect"]) -> Batch:
    """x [B, ..., H, W], each row turned by an angle drawn from `degrees` = [lo, hi], counter-clockwise as torch.rot90 turns.

    What comes in at the corners is zero, the nearest pixel of the edge or the mirrored inside. [0, 0] leaves x bit for bit.
    """
    ordered("rotate", "degrees", degrees)
    x = label_stays(batch, "rotate", images(batch, "rotate"))
    if always(degrees, 0):
        return batch
    angle = torch.deg2rad(drawn(noise, "rotate", len(x), degrees))
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.stack((torch.stack((cos, -sin), 1), torch.stack((sin, cos), 1)), 1)  # of (column, line) from the centre
    return batch.replace(x=resample(x, matrix, torch.zeros(len(x), 2, dtype=torch.float64), fill))
