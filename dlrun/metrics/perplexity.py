"""Perplexity: the exponential of the mean cross-entropy; as many equally likely classes would be as hard to guess.

Source: Jelinek, Mercer, Bahl, Baker 1977, "Perplexity - a measure of the difficulty of speech recognition tasks".
"""

from __future__ import annotations

from math import exp

import torch.nn.functional as F
from torch import Tensor

from dlrun.registry import facts
from dlrun.types import Mean


def _exponential(total: Tensor, count: Tensor) -> float:
    nats = float(total / count) if count else float("nan")
    return float("inf") if nats >= 700 else exp(nats)


@facts(best="min", reads=("classes",), logits=True, probabilities=True, undefined="no target is counted", of_nats=_exponential)
def perplexity(out: Tensor, y: Tensor) -> Mean:
    """exp(mean nats) >= 1 over all counted targets of a split; out [..., V] logits, y [...] (-100: not counted)."""
    if out.shape[:-1] != y.shape:
        raise ValueError(f"perplexity: logits [..., V] go with classes [...]; found {list(out.shape)} and {list(y.shape)}")
    total = F.cross_entropy(out.reshape(-1, out.shape[-1]).float(), y.reshape(-1), reduction="sum")
    return Mean(total, (y != -100).sum(), _exponential)
