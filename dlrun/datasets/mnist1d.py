"""MNIST-1D: one-dimensional curves that stand for the ten digits, drawn anew from the published procedure: no download.

Source: S. Greydanus, D. Kobak, Scaling Down Deep Learning with MNIST-1D, 2020 (arXiv 2011.14439), section 2: a template a class is padded,
dilated, scaled, translated, set into correlated noise, given white noise, sheared and sampled at 40 points. The paper leaves heights,
ranges and the order of these steps to the authors' program (github.com/greydanus/mnist1d, Apache License 2.0): they are taken from there
as data; the implementation is dlrun's own, so rows are other draws from the same distribution. Their table of test accuracy, in per cent:
logistic regression 32, MLP 68, CNN 94, GRU 91, people 96; with points shuffled 32, 68, 56, 57.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from dlrun.noise import hash32
from dlrun.ranges import Count, Seed
from dlrun.types import DataSpec, Splits

Array = np.ndarray[Any, np.dtype[np.float64]]

HELD_OUT = 1000
"""Rows of val, and of test; the published data have 4000 rows of train and 1000 of test, and no val."""
HEIGHTS = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)
"""The curve of each digit, at 12 equal steps, beginning and ending at the same height."""
POINTS = len(HEIGHTS[0])
LEAST_PADDING, MOST_PADDING = 36, 60
CANVAS = POINTS + MOST_PADDING
"""Points of a curve before the last sampling."""
SCALE, TRANSLATION, SHEAR = 0.4, 48, 0.75
"""Heights are scaled by 1 - SCALE/2 to 1 + SCALE/2, curves moved by 0 to 47 of 72 points, tilted by up to SHEAR/2 at either end."""
CORRELATED_NOISE, CORRELATION, WHITE_NOISE = 0.25, 2.0, 0.02
"""Std of the noise around a curve before it is smoothed, std of the Gaussian that smooths it (points), std of the noise over everything."""


def templates() -> Array:
    """float64 [10, 12]: heights with std 1/6 that begin at 0."""
    heights = np.array(HEIGHTS, dtype=np.float64)
    scaled: Array = (heights - heights[:, :1]) / (6 * heights.std(axis=1, keepdims=True))
    return scaled


def _at(curves: Array, positions: Array) -> Array:
    """Values of `curves` [N, M] at `positions` [N, K] in 0..M-1, linear between points."""
    left = np.minimum(positions.astype(np.int64), curves.shape[1] - 2)
    share = positions - left
    below, above = np.take_along_axis(curves, left, 1), np.take_along_axis(curves, left + 1, 1)
    between: Array = below * (1 - share) + above * share
    return between


def smoothed(noise: Array) -> Array:
    """`noise` [N, K] convolved with a Gaussian of std `CORRELATION`, cut at 4 std, mirrored at the ends."""
    reach = int(4 * CORRELATION)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / CORRELATION) ** 2)
    padded = np.pad(noise, ((0, 0), (reach, reach)), mode="symmetric")
    shifted = (weight * padded[:, i : i + noise.shape[1]] for i, weight in enumerate(weights / weights.sum()))
    return np.asarray(sum(shifted), dtype=np.float64)


def draw_rows(y: Any, length: int, draw: np.random.Generator) -> Array:
    """float64 [N, length]: a curve of class y[i] in each row."""
    rows = len(y)
    padded = np.pad(templates()[y], ((0, 0), (0, MOST_PADDING)))
    padding = draw.integers(LEAST_PADDING, MOST_PADDING + 1, (rows, 1))
    # Dilation: the template with its own padding is stretched over the canvas, so that less padding makes a wider curve.
    positions = np.linspace(0, 1, CANVAS) * (POINTS + padding - 1)
    curves = _at(padded, positions) * (1 + SCALE * (draw.random((rows, 1)) - 0.5))
    inside = positions < POINTS
    moved = (np.arange(CANVAS) - draw.integers(0, TRANSLATION, (rows, 1))) % CANVAS
    curves, inside = np.take_along_axis(curves, moved, 1), np.take_along_axis(inside, moved, 1)
    around = smoothed(CORRELATED_NOISE * draw.standard_normal((rows, CANVAS)))
    curves = np.where(inside, curves, around) + WHITE_NOISE * draw.standard_normal((rows, CANVAS))
    curves -= SHEAR * (draw.random((rows, 1)) - 0.5) * np.linspace(-0.5, 0.5, CANVAS)
    return _at(curves, np.broadcast_to(np.linspace(0, CANVAS - 1, length), (rows, length)))


def mnist1d(*, n: Count, length: Count, shuffle: bool, seed: Seed) -> Splits:
    """x float32 [length], standardised with train's mean and std; y in 0..9, classes balanced; n / 1000 / 1000 rows.

    The distribution is that of the published data, the rows are not: they are drawn by `seed`. With `shuffle` all rows have their points in
    one and the same random order. Raises ValueError for fewer than 2 points.
    """
    if length < 2:
        raise ValueError(f"dataset.length is {length}: expected at least 2 points of a curve")
    order = np.random.Generator(np.random.PCG64(hash32(seed, "mnist1d", "order"))).permutation(length) if shuffle else np.arange(length)
    drawn = {}
    for split, rows in (("train", n), ("val", HELD_OUT), ("test", HELD_OUT)):
        y = np.arange(rows) % len(HEIGHTS)
        drawn[split] = draw_rows(y, length, np.random.Generator(np.random.PCG64(hash32(seed, "mnist1d", split))))[:, order], y
    mean, std = drawn["train"][0].mean(), drawn["train"][0].std()
    parts = {split: {"x": torch.from_numpy((x - mean) / std).float(), "y": torch.from_numpy(y)} for split, (x, y) in drawn.items()}
    spec = DataSpec(
        in_shape=(length,),
        out_shape=(len(HEIGHTS),),
        kind="classification",
        classes=len(HEIGHTS),
        names=tuple(str(digit) for digit in range(len(HEIGHTS))),
        split_rule=f"{n} / {HELD_OUT} / {HELD_OUT} rows, classes balanced, drawn with dataset seed {seed}",
        source="drawn",
        notes=(
            "data: MNIST-1D by the published procedure, drawn anew: like the published rows, not the same"
            + (", the points of all rows shuffled alike" if shuffle else ""),
        ),
    )
    return Splits(parts["train"], parts["val"], parts["test"], spec)
