"""Top-k accuracy: the share of targets among the k largest logits.

Source: Russakovsky et al. 2015, "ImageNet Large Scale Visual Recognition Challenge", section 4.1 (top-5 error, 1 - this).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.functional.classes import as_rows, form, hard
from dlrun.ranges import Count
from dlrun.registry import facts
from dlrun.types import Mean


@facts(best="max", soft=True, reads=("classes",), logits=True, undefined="no target is counted")
def top_k(out: Tensor, y: Tensor, kind: str | None = None, *, k: Count) -> Mean:
    """Share in [0, 1] over counted targets; out [..., C] with y [...] classes or [B, C] shares (the largest counts).

    Of equal logits the class of the lower number comes first, so that k=1 is `accuracy` and a constant output gains nothing. Raises
    ValueError where k is not below the number of classes: it would be 1 for any network.
    """
    if form(out, y, kind) == "labels":
        raise ValueError(f"top_k needs a logit for each of several classes; found {list(out.shape)} and {list(y.shape)}")
    if k >= out.shape[-1]:
        raise ValueError(f"top_k: k is {k}, there are {out.shape[-1]} classes: the share would be 1 for any network; say a lower metric.k")
    logits, true = as_rows(out, y, kind)
    own = hard(true)[:, None]
    mine = logits.gather(1, own)
    before = torch.arange(logits.shape[1], device=logits.device) < own
    rank = ((logits > mine) | ((logits == mine) & before)).sum(1)
    right = (rank < k) & (mine[:, 0] > -torch.inf) & ~logits.isnan().any(1)
    return Mean(right.sum(), float(len(own)))
