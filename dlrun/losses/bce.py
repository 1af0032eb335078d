"""Binary cross-entropy between logits and 0/1 targets, in nats.

Source: Bishop 2006, "Pattern Recognition and Machine Learning", eq. 4.90.
"""

from __future__ import annotations

from math import log
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dlrun.functional.shapes import same_shape
from dlrun.registry import facts
from dlrun.types import DataSpec


def _initial(spec: DataSpec) -> float:
    """ln 2: what a probability of one half costs, whatever the target is."""
    return log(2.0)


def _floor(spec: DataSpec) -> float:
    return 0.0


@facts(initial=_initial, floor=_floor)
def bce(out: Any, y: Any) -> Tensor:
    """Mean over rows and entries; out are logits (no sigmoid), y in [0, 1], both [B, ...] of one shape, else ValueError."""
    out, y = same_shape("bce", out, y)
    return F.binary_cross_entropy_with_logits(out, y)
