"""What augmentations of images share: the check that there are images, windows and boxes at a place of each row's own, resampling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dlrun.batch import Batch

PADDING = {"zero": "zeros", "edge": "border", "reflect": "reflection"}


def images(batch: Batch, name: str) -> Tensor:
    """x [B, ..., H, W] of `batch`; ValueError where it is no batch of images."""
    x = batch["x"]
    if not isinstance(x, Tensor) or x.dim() < 3 or not x.is_floating_point():
        found = f"{tuple(x.shape[1:])} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"augment {name} needs images, float rows of shape (..., H, W); found {found}")
    return x


def label_stays(batch: Batch, name: str, x: Tensor) -> Tensor:
    """`x`, unless targets are images too: moving pixels of x alone would leave each target where it was. ValueError then."""
    y = batch.get("y")
    if isinstance(y, Tensor) and y.dim() >= 3 and y.shape[-2:] == x.shape[-2:]:
        raise ValueError(f"augment {name} moves the pixels of x; targets {list(y.shape)} are images too and would not move along")
    return x


def windows(x: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """[B, C, height, width] of x [B, C, H, W]: row b from line top[b] and column left[b] on, around the edges where it reaches beyond."""
    lines = (top[:, None] + torch.arange(height)).remainder(x.shape[2]).to(x.device)
    columns = (left[:, None] + torch.arange(width)).remainder(x.shape[3]).to(x.device)
    rows = torch.arange(len(x), device=x.device)[:, None, None, None]
    channels = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return x[rows, channels, lines[:, None, :, None], columns[:, None, None, :]]


def offsets(rows: int, low: int, high: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two whole numbers in low..high for each row, equally likely."""
    drawn = torch.randint(low, high + 1, (2, rows), generator=generator)
    return drawn[0], drawn[1]


def boxes(generator: torch.Generator, high: Tensor, wide: Tensor, height: int, width: int) -> Tensor:
    """bool [B, height, width], true in a box of `high` lines and `wide` columns (int64 [B]) about a pixel drawn uniformly.

    What reaches beyond the image is cut off. A box of even size has one more line above (left of) its centre than below (right of) it.
    """
    places = torch.rand(2, len(high), generator=generator, dtype=torch.float64)
    top, left = (places[0] * height).long() - high // 2, (places[1] * width).long() - wide // 2
    line, column = torch.arange(height)[None], torch.arange(width)[None]
    lines = (line >= top[:, None]) & (line < (top + high)[:, None])
    columns = (column >= left[:, None]) & (column < (left + wide)[:, None])
    return lines[:, :, None] & columns[:, None, :]


def resample(x: Tensor, matrix: Tensor, moved: Tensor, fill: str) -> Tensor:
    """x [B, ..., H, W] drawn anew: the pixel (column, line) from the centre is read bilinearly at `matrix` (column, line) + `moved`.

    `matrix` float64 [B, 2, 2] and `moved` [B, 2] are in pixels; `fill` says what stands outside: zero, edge or reflect.
    """
    height, width = x.shape[-2:]
    size = torch.tensor([width, height], dtype=torch.float64)
    # affine_grid counts from -1 to 1 along each axis, whatever its length in pixels.
    theta = torch.cat((matrix * size[None, None, :] / size[None, :, None], (2 * moved / size)[:, :, None]), 2)
    planes = x.reshape(len(x), -1, height, width)
    grid = F.affine_grid(theta.to(x.device, x.dtype), list(planes.shape), align_corners=False)
    return F.grid_sample(planes, grid, mode="bilinear", padding_mode=PADDING[fill], align_corners=False).view(x.shape)
