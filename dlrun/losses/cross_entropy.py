"""Cross-entropy between logits and classes, in nats, with optional label smoothing.

Source: Goodfellow, Bengio, Courville 2016, "Deep Learning", section 6.2.2.3; smoothing: Szegedy et al. 2016, "Rethinking the Inception
Architecture", section 7.
"""

from __future__ import annotations

from math import log
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dlrun.ranges import Fraction
from dlrun.registry import facts
from dlrun.types import DataSpec


def _classes(spec: DataSpec) -> int | None:
    return spec.classes or spec.vocab


def _initial(spec: DataSpec, label_smoothing: float = 0.0) -> float | None:
    """ln C: what equal probabilities cost, whatever the targets are."""
    classes = _classes(spec)
    return log(classes) if classes else None


def _floor(spec: DataSpec, label_smoothing: float = 0.0) -> float | None:
    """Entropy of a smoothed target in nats: 1 - s + s/C on the class itself, s/C on each of the others."""
    classes = _classes(spec)
    if label_smoothing == 0 or classes is None:
        return 0.0 if label_smoothing == 0 else None
    rest = label_smoothing / classes
    own = 1 - label_smoothing + rest
    return -(own * log(own) + (classes - 1) * rest * log(rest))


@facts(initial=_initial, floor=_floor)
def cross_entropy(out: Any, y: Any, *, label_smoothing: Fraction) -> Tensor:
    """Mean cross-entropy in nats over the counted targets; out [..., C] are logits, y [...] classes, of which -100 is not counted.

    Sequences: out [B, T, V], y [B, T]; 0 where nothing is counted. Also out [B, C] with y [B, C] probabilities.
    Raises ValueError where the shapes fit neither.
    """
    if not isinstance(out, Tensor) or not isinstance(y, Tensor):
        raise ValueError(f"cross_entropy takes one tensor of logits and one of targets; found {type(out).__name__} and {type(y).__name__}")
    floating = y.is_floating_point()
    if out.dim() == 2 and (y.shape == out.shape if floating else y.shape == out.shape[:1]):
        return F.cross_entropy(out, y, label_smoothing=label_smoothing)
    if floating or out.dim() < 3 or y.shape != out.shape[:-1]:
        raise ValueError(
            f"cross_entropy: logits [..., C] go with integer classes [...] or probabilities [B, C]; "
            f"found logits {list(out.shape)} and targets {list(y.shape)} {str(y.dtype).removeprefix('torch.')}"
        )
    total = F.cross_entropy(out.flatten(0, -2), y.flatten(), reduction="sum", label_smoothing=label_smoothing)
    # A mean over nothing would be 0/0; a batch whose every target is masked adds nothing instead.
    return total / (y != -100).sum().clamp(min=1)
