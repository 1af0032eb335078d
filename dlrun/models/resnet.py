"""Residual network in its CIFAR form: 6n + 2 layers, three stages, shortcuts without parameters. ResNet-20 has 269,722 parameters.

Source: He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition", section 4.2 and table 6; shortcuts: option A of
section 4.1 (identity, new channels zero).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dlrun.nn.layers import Readout, convolution, image_shape
from dlrun.ranges import Count


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut: [B, C, H, W] -> [B, outputs, H/stride, W/stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = convolution(inputs, outputs, "relu", stride=stride), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = convolution(outputs, outputs, "relu"), nn.BatchNorm2d(outputs)
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        if self.added or self.stride > 1:  # option A: every second pixel, new channels are zero
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        return F.relu(out + x)


class ResNet(nn.Module):
    """Stem, 3n blocks in stages of growing width, mean over the image, readout."""

    def __init__(self, channels: int, out_shape: tuple[int, ...], blocks: int, width: int) -> None:
        super().__init__()
        self.conv, self.norm = convolution(channels, width, "relu"), nn.BatchNorm2d(width)
        stages: list[nn.Module] = []
        inputs = width
        for stage in range(3):
            for block in range(blocks):
                outputs = width * 2**stage
                stages.append(Block(inputs, outputs, stride=2 if stage and not block else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*stages)
        self.readout = Readout(inputs, out_shape)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.norm(self.conv(x))))
        out: Tensor = self.readout(x.mean((2, 3)))
        return out


def resnet(in_shape: tuple[int, ...], out_shape: tuple[int, ...], *, depth: Count, width: Count) -> nn.Module:
    """Images [B, C, H, W] -> [B, *out_shape]; `depth` is 6n + 2 (20, 32, 44, 56, 110 in the paper), `width` the channels of stage one.

    The paper's width is 16. Raises ValueError for another depth and for rows that are not images.
    """
    channels, _, _ = image_shape("resnet", in_shape)
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(f"depth must be 6n + 2 (8, 14, 20, 32, 44, 56, ...); found depth={depth}")
    return ResNet(channels, out_shape, blocks, width)
