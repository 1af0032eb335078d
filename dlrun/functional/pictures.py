"""What tasks that make rows again share: rows as shares in [0, 1], which losses want these, originals above what was made of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dlrun.errors import UsageError
from dlrun.functional.criteria import unwrap
from dlrun.types import DataSpec

TOLERANCE = 1e-4
"""How far a share may lie outside [0, 1] by rounding; it is cut off."""


def takes_shares(criterion: Any) -> bool:
    """Whether a loss takes logits and targets in [0, 1]."""
    loss, _ = unwrap(criterion)
    return getattr(loss, "kind", None) == "binary" or isinstance(loss, (nn.BCEWithLogitsLoss, nn.BCELoss))


def unstandardised(x: Tensor, spec: DataSpec) -> Tensor:
    """Rows [B, C, ...] before the dataset standardised them: pixels in [0, 1]; as they are where it says nothing of that."""
    if spec.mean is None or spec.std is None:
        return x
    axes = (-1,) + (1,) * (x.dim() - 2)
    mean, std = (torch.tensor(numbers, device=x.device, dtype=x.dtype).view(axes) for numbers in (spec.mean, spec.std))
    return x * std + mean


def as_shares(x: Tensor, spec: DataSpec, who: str) -> Tensor:
    """Rows as shares in [0, 1], the standardisation undone. Raises UsageError in the name of `who` where they are none."""
    x = unstandardised(x, spec)
    low, high = x.aminmax()
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise UsageError(f"loss bce of {who} needs x in [0, 1]; found {float(low):.4g} to {float(high):.4g}: say loss=mse")
    return x.clamp(0, 1)


def stacked(above: Tensor, below: Tensor) -> Tensor:
    """[N, C, H, W] twice -> [N, C, 2 H + 1, W], a bright line between; drawn as one image, both have the same scale of grey."""
    brightest = torch.maximum(above.amax((1, 2, 3)), below.amax((1, 2, 3)))[:, None, None, None]
    return torch.cat((above, brightest.expand(-1, above.shape[1], 1, above.shape[3]), below), 2)
