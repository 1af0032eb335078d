"""Cross-entropy between logits and classes, in nats, with optional label smoothing.

Source: Goodfellow, Bengio, Courville 2016, "Deep Learning", section 6.2.1.1; smoothing: Szegedy et al. 2016, "Rethinking the Inception
Architecture", section 7.
"""

from __future__ import annotations

from math import log

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
def cross_entropy(out: Tensor, y: Tensor, *, label_smoothing: Fraction) -> Tensor:
    """Mean cross-entropy in nats; out [..., C] are logits, y [...] classes (-100: not counted) or, same shape as out, probabilities.

    Sequences: out [B, T, V], y [B, T]; the mean is over counted positions. Raises ValueError where the shapes do not fit.
    """
    if y.shape == out.shape[:-1] and not y.is_floating_point():
        if out.dim() != 2:
            out, y = out.reshape(-1, out.shape[-1]), y.reshape(-1)
    elif y.shape != out.shape or not y.is_floating_point() or out.dim() != 2:
        raise ValueError(
            f"cross_entropy: logits [..., C] go with integer classes [...] or probabilities [B, C]; "
            f"found logits {list(out.shape)} and targets {list(y.shape)} {str(y.dtype).removeprefix('torch.')}"
        )
    return F.cross_entropy(out, y, label_smoothing=label_smoothing)
