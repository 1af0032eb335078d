"""Kullback-Leibler divergence KL(y || softmax(out)) in nats: cross-entropy less the entropy of the targets, so that 0 is a perfect fit.

Source: Kullback, Leibler 1951, "On Information and Sufficiency", eq. 2.4; as a loss between networks: Hinton, Vinyals, Dean 2015,
"Distilling the Knowledge in a Neural Network", section 2.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dlrun.functional.shapes import same_shape
from dlrun.registry import facts
from dlrun.types import DataSpec


def _floor(spec: DataSpec) -> float:
    return 0.0


@facts(floor=_floor, kind="classification")
def kl(out: Any, y: Any) -> Tensor:
    """Mean over rows of sum_c y_c ln(y_c / softmax(out)_c); out [..., C] logits, y [..., C] probabilities of one shape, else ValueError."""
    if isinstance(y, Tensor) and not y.is_floating_point():
        raise ValueError(f"kl takes probabilities [..., C] as targets, found whole numbers {list(y.shape)}: say loss=cross_entropy")
    out, y = same_shape("kl", out, y)
    if out.dim() < 2:
        raise ValueError(f"kl: logits [..., C] and probabilities [..., C] have two axes or more; found {list(out.shape)}")
    nats: Tensor = F.kl_div(out.log_softmax(-1), y, reduction="sum") * (out.shape[-1] / out.numel())
    return nats
