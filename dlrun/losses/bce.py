"""Binary cross-entropy between logits and 0/1 targets, in nats, with an optional weight of the ones.

Source: Bishop 2006, "Pattern Recognition and Machine Learning", eq. 4.90; weight: King, Zeng 2001, "Logistic Regression in Rare Events
Data", section 5.1.
"""

from __future__ import annotations

from math import log
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dlrun.functional.shapes import same_shape
from dlrun.functional.weights import as_tensor
from dlrun.ranges import Positive
from dlrun.registry import facts
from dlrun.types import DataSpec


def _initial(spec: DataSpec, pos_weight: Any = None) -> float | None:
    """ln 2: what a probability of one half costs, whatever the target is; with a weight it hangs on how many ones there are."""
    return log(2.0) if pos_weight is None else None


def _floor(spec: DataSpec, pos_weight: Any = None) -> float:
    return 0.0


@facts(initial=_initial, floor=_floor, kind="binary", signed=False)
def bce(out: Any, y: Any, *, pos_weight: Positive | list[Positive] | None) -> Tensor:
    """Mean over rows and entries; out are logits (no sigmoid), y in [0, 1], both [B, ...] of one shape, else ValueError.

    The mean is over all entries, not over weights, as torch's. ValueError where a list of weights is not as long as a row.
    """
    out, y = same_shape("bce", out, y)
    weights = as_tensor([pos_weight] if isinstance(pos_weight, (int, float)) else pos_weight, out)
    if weights is not None and weights.numel() > 1 and out.shape[1:] != weights.shape:
        raise ValueError(f"bce: pos_weight has {weights.numel()} numbers, a row of outputs has shape {list(out.shape[1:])}")
    return F.binary_cross_entropy_with_logits(out, y, pos_weight=weights)
