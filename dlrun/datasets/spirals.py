"""Interleaved spirals in the plane, one class each: nested boundaries that a small network needs depth, width or time for.

Source: K. Lang, M. Witbrock, Learning to Tell Two Spirals Apart, 1988: two spirals of three turns, radius from 0.5 to 6.5; here in units of
the outer radius, for any number of spirals and turns, drawn at random instead of at 97 fixed angles.
"""

from __future__ import annotations

import numpy as np
import torch

from dlrun.ranges import Count, NonNegative, Positive, Seed
from dlrun.types import DataSpec, Splits

INNER = 0.5 / 6.5
"""Radius at the inner end: at 0 all spirals would meet, and nothing could tell their points apart."""


def spirals(*, classes: Count, n: Count, noise: NonNegative, turns: Positive, seed: Seed) -> Splits:
    """x float32 [2], y in 0..classes-1; n rows in all: a fifth each for val and test. `noise` is the std added to each coordinate.

    With u uniform in [0, 1], a point of spiral k has radius 1/13 + 12/13 u and angle 2 pi (turns u + k / classes): neighbouring spirals
    are 12 / (13 turns classes) apart. Classes are balanced in each split to within a row.
    """
    if classes < 2:
        raise ValueError(f"dataset.classes is {classes}: expected at least 2 spirals to tell apart")
    if n < 5 * classes:
        raise ValueError(f"dataset.n is {n}: expected at least 5 rows a spiral, {5 * classes}; a fifth goes to val and a fifth to test")
    draw = np.random.Generator(np.random.PCG64(seed))
    held = n // 5
    edges = {"train": n - 2 * held, "val": held, "test": held}
    parts = {}
    for split, rows in edges.items():
        y = np.arange(rows) % classes
        u = draw.uniform(0.0, 1.0, rows)
        radius, angle = INNER + (1 - INNER) * u, 2 * np.pi * (turns * u + y / classes)
        points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1) + noise * draw.standard_normal((rows, 2))
        parts[split] = {"x": torch.from_numpy(points).float(), "y": torch.from_numpy(y)}
    gap = (1 - INNER) / (turns * classes)
    spec = DataSpec(
        in_shape=(2,),
        out_shape=(classes,),
        kind="classification",
        classes=classes,
        names=tuple(f"spiral {k}" for k in range(classes)),
        split_rule=f"{edges['train']} / {held} / {held} rows, classes balanced, drawn with dataset seed {seed}",
        source="drawn",
        notes=(f"data: neighbouring spirals are {gap:.3g} apart, noise has std {noise:g}" + _overlap(gap, noise),),
    )
    return Splits(parts["train"], parts["val"], parts["test"], spec)


def _overlap(gap: float, noise: float) -> str:
    """What to say where noise carries points over the boundary, half a gap away, so that no network can reach accuracy 1."""
    return ": they overlap, no network can tell all points apart" if noise > gap / 6 else ""
