"""Cross-entropy between logits and classes, in nats, with optional label smoothing and class weights.

Source: Goodfellow, Bengio, Courville 2016, "Deep Learning", section 6.2.2.3; smoothing: Szegedy et al. 2016, "Rethinking the Inception
Architecture", section 7; weights: King, Zeng 2001, "Logistic Regression in Rare Events Data", section 5.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dlrun.functional.classes import all_count
from dlrun.functional.weights import Weights, class_weights
from dlrun.ranges import Fraction, NonNegative
from dlrun.registry import facts
from dlrun.types import DataSpec


def _initial(spec: DataSpec, label_smoothing: float = 0.0, weight: Weights = None, class_counts: Any = None) -> float | None:
    """ln C: what equal probabilities cost, whatever the targets are; unknown where weights meet smoothing."""
    classes = spec.classes or spec.vocab
    return log(classes) if classes and not (label_smoothing and weight is not None) else None


def _floor(spec: DataSpec, label_smoothing: float = 0.0, weight: Weights = None, class_counts: Any = None) -> float | None:
    """Entropy of a smoothed target in nats: 1 - s + s/C on the class itself, s/C on each of the others."""
    classes = spec.classes or spec.vocab
    if label_smoothing == 0:
        return 0.0
    if classes is None or weight is not None:
        return None
    rest = label_smoothing / classes
    own = 1 - label_smoothing + rest
    return -(own * log(own) + (classes - 1) * rest * log(rest))


def _plain(label_smoothing: float = 0.0, weight: Weights = None, class_counts: Any = None) -> bool:
    """Whether it is the mean of -ln p, nothing else."""
    return not label_smoothing and weight is None


def _count(y: Tensor, label_smoothing: float = 0.0, weight: Weights = None, class_counts: Sequence[int] | None = None) -> Tensor | float:
    """Counted targets, each with its class's weight; for targets that are probabilities, rows."""
    if y.is_floating_point():
        return float(len(y))
    if weight is None:
        return float(y.numel()) if all_count(y) else (y != -100).sum()
    weights = class_weights("cross_entropy", weight, class_counts, y)
    assert weights is not None
    return torch.where(y == -100, 0.0, weights[y.clamp(min=0)]).sum()


@facts(initial=_initial, floor=_floor, count=_count, kind="classification", plain=_plain)
def cross_entropy(
    out: Any,
    y: Any,
    class_counts: Sequence[int] | None = None,
    *,
    label_smoothing: Fraction,
    weight: list[NonNegative] | Literal["balanced"] | None,
) -> Tensor:
    """Mean cross-entropy in nats over the counted targets; out [..., C] are logits, y [...] classes, of which -100 is not counted.

    Sequences: out [B, T, V], y [B, T]; 0 where nothing is counted. Also out [B, C] with y [B, C] probabilities. With weights a mean
    weighed by each target's class, as torch's. Raises ValueError where the shapes fit neither, or weights and classes differ in number.
    """
    if not isinstance(out, Tensor) or not isinstance(y, Tensor):
        raise ValueError(f"cross_entropy takes one tensor of logits and one of targets; found {type(out).__name__} and {type(y).__name__}")
    weights = class_weights("cross_entropy", weight, class_counts, out) if weight is not None else None
    if weights is not None and out.dim() and len(weights) != out.shape[-1]:
        raise ValueError(f"cross_entropy: weight has {len(weights)} numbers, the outputs {list(out.shape)} have {out.shape[-1]} classes")
    floating = y.is_floating_point()
    if floating and out.dim() == 2 and y.shape == out.shape:
        return F.cross_entropy(out, y, weights, label_smoothing=label_smoothing)
    if floating or out.dim() < 2 or y.shape != out.shape[:-1]:
        raise ValueError(
            f"cross_entropy: logits [..., C] go with integer classes [...] or probabilities [B, C]; "
            f"found logits {list(out.shape)} and targets {list(y.shape)} {str(y.dtype).removeprefix('torch.')}"
        )
    if all_count(y):  # 30 us less than the way through sums
        return F.cross_entropy(out.flatten(0, -2), y.flatten(), weights, label_smoothing=label_smoothing)
    share = _count(y, weight=weight, class_counts=class_counts)
    # A mean over nothing would be 0/0; a batch whose every target is masked adds nothing instead.
    if out.dim() == 2 and (label_smoothing or weights is not None):  # torch's own mean, to the bit
        return torch.where(share == 0, 0.0, F.cross_entropy(out, y, weights, label_smoothing=label_smoothing))  # type: ignore[arg-type]
    total = F.cross_entropy(out.flatten(0, -2), y.flatten(), weights, reduction="sum", label_smoothing=label_smoothing)
    least = 1 if weights is None else torch.finfo(torch.float64).tiny
    return total / share.clamp(min=least).to(total.dtype)  # type: ignore[union-attr]
