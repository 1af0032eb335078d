"""Focal loss: cross-entropy times (1 - p)^gamma, p the probability of the true class, so that easy rows do not drown hard ones.

Source: Lin, Goyal, Girshick, He, Dollar 2017, "Focal Loss for Dense Object Detection", eq. 4 and 5. The mean is over rows; the paper's
detector divides by the number of positive anchors instead.
"""

from __future__ import annotations

from math import log
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dlrun.functional.weights import as_tensor
from dlrun.ranges import Fraction, NonNegative
from dlrun.registry import facts
from dlrun.types import DataSpec


def _initial(spec: DataSpec, gamma: float, alpha: Any = None) -> float | None:
    """(1 - 1/C)^gamma ln C: what equal probabilities cost; with weights it hangs on the classes' shares."""
    classes = 2 if spec.kind == "binary" else spec.classes or spec.vocab
    return (1 - 1 / classes) ** gamma * log(classes) if classes and alpha is None else None


def _floor(spec: DataSpec, gamma: float, alpha: Any = None) -> float:
    return 0.0


def _count(y: Tensor, gamma: float, alpha: Any = None) -> Tensor | float:
    """Targets that are not masked; of 0/1 targets in floats, rows."""
    return float(len(y)) if y.is_floating_point() else (y != -100).sum()


@facts(initial=_initial, floor=_floor, count=_count, shares=False, signed=False)
def focal(out: Any, y: Any, *, gamma: NonNegative, alpha: Fraction | list[NonNegative] | None) -> Tensor:
    """Mean focal loss in nats over counted targets; out [..., C] logits with y [...] classes (-100: not counted), or out and y [B, ...]
    of one shape, one logit for each target in {0, 1}.

    Raises ValueError where the shapes fit neither, or alpha is one number for classes or a list for 0/1 targets.
    """
    if not isinstance(out, Tensor) or not isinstance(y, Tensor) or y.shape not in (out.shape, out.shape[:-1]):
        found = [list(side.shape) if isinstance(side, Tensor) else type(side).__name__ for side in (out, y)]
        raise ValueError(
            f"focal: logits [..., C] go with integer classes [...], logits [B, ...] with 0/1 targets; found {found[0]}, {found[1]}"
        )
    return _binary(out, y.to(out.dtype), gamma, alpha) if y.shape == out.shape else _classes(out, y, gamma, alpha)


def _binary(out: Tensor, y: Tensor, gamma: float, alpha: Any) -> Tensor:
    if isinstance(alpha, list):
        raise ValueError(f"focal: alpha is a list of {len(alpha)} for 0/1 targets: say one number, the weight of the ones")
    nats = F.binary_cross_entropy_with_logits(out, y, reduction="none")
    # 1 - p of the true side is the sigmoid of the logit with its sign turned against the target: exact where p is near 1.
    loss = torch.sigmoid(out * (1 - 2 * y)) ** gamma * nats
    return (loss if alpha is None else (alpha * y + (1 - alpha) * (1 - y)) * loss).mean()


def _classes(out: Tensor, y: Tensor, gamma: float, alpha: Any) -> Tensor:
    if y.is_floating_point() or isinstance(alpha, (int, float)) or (alpha and len(alpha) != out.shape[-1]):
        raise ValueError(
            f"focal: for outputs {list(out.shape)} alpha is a list of {out.shape[-1]} weights or null, y whole numbers {list(y.shape)}"
        )
    logits, counted = out.flatten(0, -2), (y != -100).flatten()
    true = y.flatten().clamp(min=0)
    nats = F.cross_entropy(logits, true, as_tensor(alpha, out), reduction="none")
    own = logits.log_softmax(-1).gather(-1, true[:, None])[:, 0]
    loss = (-torch.expm1(own)).clamp(min=0) ** gamma * nats
    return torch.where(counted, loss, 0.0).sum() / counted.sum().clamp(min=1)
