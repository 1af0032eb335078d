"""Gaussians on a circle in the plane: the test for mode collapse of generative adversarial networks.

Source: L. Metz, B. Poole, D. Pfau, J. Sohl-Dickstein, Unrolled Generative Adversarial Networks, 2017, section 3.1: 8 modes, std 0.02.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dlrun.ranges import Count, Positive, Seed
from dlrun.types import DataSpec, Splits


def _points(rows: int, modes: int, radius: float, std: float, draw: np.random.Generator) -> Tensor:
    angle = 2 * math.pi * (np.arange(rows) % modes) / modes
    centres = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return torch.from_numpy(centres + std * draw.standard_normal((rows, 2))).float()


def ring(*, modes: Count, radius: Positive, std: Positive, n: Count, seed: Seed) -> Splits:
    """x float32 [2]; y int64 the mode it was drawn from, for measures (a GAN learns from x). n train rows, a quarter as many in val and
    in test, equally many a mode: row i lies on mode i modulo modes.

    Mode k has its centre at the angle 2 pi k / modes, the first at (radius, 0).
    """
    if n < 4 * modes:
        raise ValueError(f"dataset.n is {n}: expected at least 4 rows a mode, {4 * modes}")
    draw = np.random.Generator(np.random.PCG64(seed))
    train, val, test = ({"x": _points(rows, modes, radius, std, draw), "y": torch.arange(rows) % modes} for rows in (n, n // 4, n // 4))
    spec = DataSpec(
        in_shape=(2,),
        out_shape=(2,),
        kind="gan",
        classes=modes,
        split_rule=f"{n} / {n // 4} / {n // 4} rows, drawn with dataset seed {seed}",
        source="drawn",
        notes=(f"data: {modes} Gaussians of std {std:g} on a circle of radius {radius:g}",),
    )
    return Splits(train, val, test, spec)
