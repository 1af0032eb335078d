"""Two interleaving half circles in the plane, one class each: what a linear model cannot separate and a small network can.

Source: scikit-learn's `make_moons`, drawn anew with numpy so that a seed gives the same points whatever release is installed.
"""

from __future__ import annotations

import numpy as np
import torch

from dlrun.ranges import Count, NonNegative, Seed
from dlrun.types import DataSpec, Splits


def moons(*, n: Count, noise: NonNegative, seed: Seed) -> Splits:
    """x float32 [2], y in 0..1; n rows in all: a fifth each for val and test, classes balanced. `noise` is the std added to x."""
    if n < 10:
        raise ValueError(f"dataset.n is {n}: expected at least 10 rows, a fifth of them goes to val and a fifth to test")
    draw = np.random.Generator(np.random.PCG64(seed))
    y = np.arange(n) % 2
    angle = draw.uniform(0.0, np.pi, n)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1.0 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
    points = np.where(y[:, None] == 0, upper, lower) + noise * draw.standard_normal((n, 2))
    x, labels = torch.from_numpy(points).float(), torch.from_numpy(y)
    held = n // 5
    train, val, test = ((x[low:high], labels[low:high]) for low, high in ((0, n - 2 * held), (n - 2 * held, n - held), (n - held, n)))
    spec = DataSpec(
        in_shape=(2,),
        out_shape=(2,),
        kind="classification",
        classes=2,
        names=("upper", "lower"),
        split_rule=f"{n - 2 * held} / {held} / {held} rows, classes balanced, drawn with dataset seed {seed}",
        source="drawn",
    )
    return Splits(train, val, test, spec)
