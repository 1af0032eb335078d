"""Move series by whole places, around the end: a translation that loses nothing.

Source: Greydanus 2020, "Scaling down Deep Learning", section 2: curves of one class differ by where they lie. Around the end as in `shift`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.noise import Noise
from dlrun.ranges import Count


def roll(batch: Batch, noise: Noise, *, places: Count) -> Batch:
    """x [B, ..., L], every row moved by its own whole number in -places..places, equally likely; channels of a row move together.

    Raises ValueError where x is no series (no floats, rows of `places` numbers or fewer), or where targets are series of that length too.
    """
    x = batch["x"]
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() < 2:
        found = f"{list(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"augment roll needs series, float rows of shape (..., L); found {found}")
    if places >= x.shape[-1]:
        raise ValueError(f"augment roll: places is {places}, more than a row of {x.shape[-1]} numbers can be moved by")
    y = batch.get("y")
    if isinstance(y, Tensor) and y.dim() > 1 and y.shape[-1] == x.shape[-1]:
        raise ValueError(f"augment roll moves the numbers of x; targets {list(y.shape)} are series too and would not move along")
    moved = torch.randint(-places, places + 1, (len(x),), generator=noise.generator("roll"))
    at = (torch.arange(x.shape[-1]) - moved[:, None]).remainder(x.shape[-1]).to(x.device)
    return batch.replace(x=x.gather(-1, at.view(len(x), *(1,) * (x.dim() - 2), -1).expand_as(x)))
