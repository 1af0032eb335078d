"""Plain convolutional network for images of 8 x 8 to about 64 x 64 pixels, or series: stages of convolutions of width 3, halved between.

Source: Simonyan, Zisserman 2015, "Very Deep Convolutional Networks", section 2.1 (3x3 convolutions, max-pooled stages of doubling width).
"""

from __future__ import annotations

from math import prod
from typing import Literal

from torch import Tensor, nn

from dlrun.nn.layers import Flatten, Readout, convolution, shape_text
from dlrun.ranges import Count, Fraction

NORMS: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
POOLS: dict[int, type[nn.Module]] = {1: nn.MaxPool1d, 2: nn.MaxPool2d}
"""By the number of axes that are convolved over."""


class OneChannel(nn.Module):
    """Series of single numbers as series of one channel: [B, L] -> [B, 1, L]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(1)


def _norm(kind: str, channels: int, axes: int) -> list[nn.Module]:
    if kind == "batch":
        return [NORMS[axes](channels)]
    return [nn.GroupNorm(1, channels)] if kind == "layer" else []


def cnn(
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    vocab: int | None,
    *,
    channels: list[Count],
    blocks: Count,
    norm: Literal["none", "layer", "batch"],
    dropout: Fraction,
) -> nn.Module:
    """Images [B, C, H, W] or series [B, L], [B, C, L] -> [B, *out_shape]; a stage of `blocks` convolutions per entry of `channels`, halved
    after each.

    Dropout stands before the readout. Raises ValueError for rows of another form, and for those too small for the stages.
    """
    if vocab is not None or not 1 <= len(in_shape) <= 3:
        rows = "tokens" if vocab is not None else shape_text(in_shape)
        raise ValueError(
            f"cnn takes images, C x H x W, or series of numbers, L or C x L; this dataset's rows are {rows}: take another model"
        )
    inputs, *sizes = in_shape if len(in_shape) > 1 else (1, *in_shape)
    axes = len(sizes)
    if min(sizes) < 2 ** len(channels):
        kind, unit = ("a series", "points") if axes == 1 else ("an image", "pixels")
        raise ValueError(f"{len(channels)} stages halve {kind} to nothing: {shape_text(tuple(sizes))} {unit}, channels={channels}")
    layers: list[nn.Module] = [OneChannel()] if len(in_shape) == 1 else []
    for outputs in channels:
        for block in range(blocks):
            layers.append(convolution(inputs, outputs, "relu", bias=norm == "none", axes=axes))
            # Pooled before norm and relu, these two see a quarter of the pixels: a third less time for a step on a CPU.
            layers += [*([POOLS[axes](2)] if block == blocks - 1 else []), *_norm(norm, outputs, axes), nn.ReLU()]
            inputs = outputs
        sizes = [size // 2 for size in sizes]
    if dropout > 0:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, Flatten(), Readout(prod((inputs, *sizes)), out_shape))
