"""Accuracy: the share of targets that the largest logit names.

Source: Manning, Raghavan, Schuetze 2008, "Introduction to Information Retrieval", section 8.3.
"""

from __future__ import annotations

from torch import Tensor

from dlrun.functional.classes import all_count, decide
from dlrun.registry import facts
from dlrun.types import Mean


@facts(best="max", soft=True, reads=("classes", "labels"), logits=True, undefined="no target is counted")
def accuracy(out: Tensor, y: Tensor, kind: str | None = None) -> Mean:
    """Share in [0, 1]; out [..., C] logits with y [...] classes (-100: not counted), or out [B, ...] logits with y [B, ...] in {0, 1}.

    Of several labels a row each counts by itself. Where a target is a mixture (mixup, cutmix; y [B, C] probabilities, or y [B] between 0
    and 1), its class is the one of the largest share.
    """
    predicted, y = decide(out, y, kind)
    return Mean((predicted == y).sum(), float(y.numel()) if all_count(y) else (y >= 0).sum())
