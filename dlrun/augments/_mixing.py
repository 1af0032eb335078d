"""What mixup and cutmix share: each row's partner, shares from a beta distribution, and targets mixed by share.

Partners are rows of the same micro-batch: under train.accumulate rows of different parts never mix.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dlrun.augments._ranges import per_row
from dlrun.batch import Batch
from dlrun.noise import Noise, hash32


def mixable(batch: Batch, part: str) -> Tensor:
    """x of a batch whose rows can be mixed. Raises ValueError: tokens, names beside x and y, a single row."""
    x = batch["x"]
    if not isinstance(x, Tensor) or not x.is_floating_point():
        found = str(x.dtype).removeprefix("torch.") if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"augment {part} mixes rows of numbers; x is {found}: tokens have no value between two of them; leave {part} out")
    others = [name for name in batch if name not in ("x", "y")]
    if others:
        raise ValueError(f"augment {part} mixes x and y; this batch also holds {', '.join(others)}, which would belong to one row only")
    if len(x) < 2:
        raise ValueError(f"augment {part}: a micro-batch has one row, nothing to mix it with: raise train.batch_size or lower accumulate")
    return x


def beta(noise: Noise, use: str, alpha: float, rows: int) -> Tensor:
    """float64 [rows] in [0, 1], drawn from Beta(alpha, alpha). numpy's generator is exact for a tiny alpha too, where gammas underflow."""
    return torch.from_numpy(np.random.default_rng(hash32(*noise.key, use)).beta(alpha, alpha, rows))


def partners(noise: Noise, use: str, rows: int) -> Tensor:
    """int64 [rows], a permutation: the row each row is mixed with. A row may meet itself (once a batch on average) and stays as it is."""
    return torch.randperm(rows, generator=noise.generator(use))


def mixed_targets(batch: Batch, partner: Tensor, share: Tensor, classes: int | None, part: str) -> Batch:
    """`batch` with y mixed: `share` [B] of a row's own, the rest of its partner's (partner int64 [B] on y's device).

    Whole-number classes [B] become probabilities float32 [B, classes]; floating targets (numbers, probabilities) and whole numbers of data
    without classes mix linearly. Without y the batch stays. Raises ValueError for targets that cannot be mixed.
    """
    if "y" not in batch:
        return batch
    y = batch["y"]
    if not isinstance(y, Tensor) or (not y.is_floating_point() and y.dim() != 1):
        found = f"{list(y.shape)} {str(y.dtype).removeprefix('torch.')}" if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"augment {part} mixes one target a row: a class, a number or floats; found {found}")
    if not y.is_floating_point():
        y = probabilities(y, classes, part) if classes else y.float()
    own = per_row(share, y)
    return batch.replace(y=own * y + (1 - own) * y.index_select(0, partner))


def probabilities(y: Tensor, classes: int, part: str) -> Tensor:
    """Classes [B] as float32 [B, classes] with a single 1. ValueError where a label is below 0: an uncounted row has no probabilities."""
    if bool((y < 0).any()):
        raise ValueError(f"augment {part}: a label is {int(y.min())}, which counts as no class: leave such rows out of train, or {part}")
    return F.one_hot(y, classes).float()
