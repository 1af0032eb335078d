"""Vision transformer: an image is cut into square patches, which a pre-norm encoder reads. ViT-B/16 has 86,567,656 parameters.

Source: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", section 3.1, eq. 1-4 and table 1; reading the mean instead of a class
token: appendix D.3.
B batch, N patches, D width.
"""

from __future__ import annotations

from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn

from dlrun.nn.attention import Block, Design
from dlrun.nn.init import kaiming_
from dlrun.nn.layers import Readout, image_shape
from dlrun.ranges import Count, Fraction, Positive

EPS = 1e-6
"""Of the layer norms, as in the authors' code."""


class VisionTransformer(nn.Module):
    """Images [B, C, H, W] -> [B, *out_shape]; with `pool` class a learned token is put before the patches and read at the end."""

    def __init__(
        self, shape: tuple[int, int, int], out_shape: tuple[int, ...], patch: int, pool: str, positions: bool, design: Design, depth: int
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.patches = nn.Conv2d(channels, design.width, patch, patch)
        kaiming_(self.patches, "linear", sqrt(0.5))  # patches and positions add up to a mean square of 1
        patches = (height // patch) * (width // patch)
        self.token = nn.Parameter(torch.randn(design.width) * sqrt(0.5)) if pool == "class" else None
        length = patches + (pool == "class")
        self.positions = nn.Parameter(torch.randn(length, design.width) * sqrt(0.5)) if positions else None
        self.drop = nn.Dropout(design.dropout)
        self.blocks = nn.Sequential(*(Block(design) for _ in range(depth)))
        self.norm = nn.LayerNorm(design.width, design.eps)
        self.readout = Readout(design.width, out_shape)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.patches(x).flatten(2).transpose(1, 2)  # [B, N, D], row by row
        if self.token is not None:
            hidden = torch.cat((self.token.to(hidden.dtype).expand(len(x), 1, -1), hidden), 1)
        if self.positions is not None:
            hidden = hidden + self.positions
        hidden = self.norm(self.blocks(self.drop(hidden)))
        out: Tensor = self.readout(hidden.mean(1) if self.token is None else hidden[:, 0])
        return out


def vit(
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    *,
    patch: Count,
    width: Count,
    depth: Count,
    heads: Count,
    mlp_ratio: Positive,
    dropout: Fraction,
    pool: Literal["class", "mean"],
    positions: Literal["learned", "none"],
) -> nn.Module:
    """Images [B, C, H, W] -> [B, *out_shape] through H W / patch^2 patches. Heads and width are those of `transformer`.

    Raises ValueError for rows that are not images, patches that do not tile the image, and heads that do not divide the width.
    """
    shape = image_shape("vit", in_shape)
    if shape[1] % patch or shape[2] % patch:
        sizes = [size for size in range(1, min(shape[1:]) + 1) if not shape[1] % size and not shape[2] % size]
        fitting = ", ".join(map(str, sizes))
        raise ValueError(f"patch={patch} does not tile images of {shape[1]} x {shape[2]} pixels; these do: {fitting}")
    if width % heads:
        raise ValueError(f"heads must divide width; found heads={heads}, width={width}")
    design = Design(width, heads, dropout=dropout, branch=1 / sqrt(2 * depth), hidden=round(mlp_ratio * width), eps=EPS)
    return VisionTransformer(shape, out_shape, patch, pool, positions == "learned", design, depth)
