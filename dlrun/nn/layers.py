"""Small layers that several networks share: activations and norms by name, and the readout that ends a network."""

from __future__ import annotations

from math import prod
from typing import Any

from torch import Tensor, nn

from dlrun.nn.init import READOUT_GAIN, kaiming_

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


def image_shape(model: str, in_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(channels, height, width) of one row, or ValueError in the name of `model`."""
    if len(in_shape) != 3:
        raise ValueError(f"{model} takes images, channels x height x width; this dataset's rows are {shape_text(in_shape)}: take model=mlp")
    channels, height, width = in_shape
    return channels, height, width


def convolution(
    inputs: int, outputs: int, activation: str, *, kernel: int = 3, stride: int = 1, bias: bool = False, axes: int = 2
) -> nn.Conv1d | nn.Conv2d:
    """A convolution over `axes` axes (1: series, 2: images) that keeps their sizes at stride 1, with Kaiming weights."""
    kind = nn.Conv1d if axes == 1 else nn.Conv2d
    layer = kind(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias)
    kaiming_(layer, activation)
    return layer


def shape_text(shape: tuple[int, ...]) -> str:
    """A row's shape as people write it: "1 x 28 x 28", "a single number" for ()."""
    return " x ".join(map(str, shape)) or "a single number"


class Readout(nn.Linear):
    """The last layer: features [..., D] -> [..., *out_shape], out_shape () giving [...]; small weights (see `READOUT_GAIN`)."""

    def __init__(self, features: int, out_shape: tuple[int, ...], gain: float = READOUT_GAIN, bias: bool = True) -> None:
        super().__init__(features, prod(out_shape), bias=bias)
        self.out_shape = tuple(out_shape)
        kaiming_(self, "linear", gain)

    def forward(self, features: Tensor) -> Tensor:
        out = super().forward(features)
        return out if len(self.out_shape) == 1 else out.reshape(*out.shape[:-1], *self.out_shape)


class Flatten(nn.Module):
    """Rows of any shape as vectors: [B, ...] -> [B, D]; a row that is one number gives [B, 1]. ValueError for several tensors."""

    def forward(self, x: Any) -> Tensor:
        if not isinstance(x, Tensor):
            held = f" of {', '.join(x)}" if isinstance(x, dict) else f" of {len(x)}" if isinstance(x, (tuple, list)) else ""
            raise ValueError(f"this network takes x as one tensor, the data gives a {type(x).__name__}{held}: for graphs say model=gnn")
        return x if x.dim() == 2 else x.reshape(len(x), -1)
