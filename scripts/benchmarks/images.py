"""A plugin for the benchmarks: random uint8 images of Fashion-MNIST's shape, where the real ones are not in the cache."""

from __future__ import annotations

import torch

from dlrun import Splits, register


@register.dataset
def random_images(*, rows: int = 60_000) -> Splits:
    """`rows` images [28, 28] of uniform noise with labels 0 to 9 drawn at random."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (rows + 1000, 28, 28), dtype=torch.uint8, generator=draw)
    y = torch.randint(0, 10, (rows + 1000,), generator=draw)
    return Splits((x[:rows], y[:rows]), val=(x[rows:], y[rows:]))
