"""Convolutional decoder or generator: from a vector to an image, doubled from stage to stage by transposed convolutions.

Source: Radford, Metz, Chintala 2016, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks",
section 3 and figure 1; a kernel that the stride divides, so that no pixel is written more often than its neighbours: Odena, Dumoulin,
Olah 2016, "Deconvolution and Checkerboard Artifacts".
"""

from __future__ import annotations

from math import prod, sqrt
from typing import Literal

from torch import Tensor, nn

from dlrun.nn.init import GAINS, READOUT_GAIN
from dlrun.nn.layers import Flatten, shape_text
from dlrun.ranges import Count

KERNEL, STRIDE, TAPS = 4, 2, 4
"""A transposed convolution of kernel 4 and stride 2 makes each output pixel of 2 x 2 input pixels."""


class Up(nn.ConvTranspose2d):
    """[B, C, h, w] -> [B, outputs, height, width], where 2 h is height or height + 1: the odd row and column are cut off."""

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int], gain: float, bias: bool) -> None:
        super().__init__(inputs, outputs, KERNEL, STRIDE, padding=1, bias=bias)
        self.size = size
        nn.init.normal_(self.weight, std=gain / sqrt(inputs * TAPS))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        height, width = self.size
        return super().forward(x, output_size)[..., :height, :width]


def deconv(
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    *,
    channels: list[Count],
    norm: Literal["none", "batch"],
) -> nn.Module:
    """Vectors [B, *in_shape] -> images [B, C, H, W], out_shape (C, H, W); as many doublings as there are `channels`, the last to the image.

    The first stage is a linear map to channels[0] maps of H / 2^stages x W / 2^stages pixels, rounded up. The output has no bound (logits,
    or standardised pixels). Raises ValueError where rows of the output are not images, or are too small for the stages.
    """
    if len(out_shape) != 3:
        raise ValueError(f"deconv makes images, channels x height x width; asked for {shape_text(out_shape)}: take mlp")
    if not channels or min(out_shape[1:]) < 2 ** len(channels):
        raise ValueError(f"{len(channels)} stages cannot end at {out_shape[1]} x {out_shape[2]} pixels: channels={channels}")
    sizes = [(out_shape[1], out_shape[2])]
    for _ in channels:
        sizes.insert(0, (-(-sizes[0][0] // 2), -(-sizes[0][1] // 2)))
    start = (channels[0], *sizes[0])
    first = nn.Linear(prod(in_shape), prod(start))
    nn.init.normal_(first.weight, std=GAINS["relu"] / sqrt(prod(in_shape)))
    nn.init.zeros_(first.bias)
    layers: list[nn.Module] = [Flatten(), first, nn.Unflatten(1, start)]
    outputs = [*channels[1:], out_shape[0]]
    for number, (inputs, wanted) in enumerate(zip(channels, outputs)):
        last = number == len(channels) - 1
        layers += [nn.BatchNorm2d(inputs)] if norm == "batch" else []
        layers += [nn.ReLU(), Up(inputs, wanted, sizes[number + 1], READOUT_GAIN if last else GAINS["relu"], bias=last or norm == "none")]
    return nn.Sequential(*layers)
