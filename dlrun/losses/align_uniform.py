"""Alignment plus uniformity of embeddings on the unit sphere.

Source: Wang, Isola 2020, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere",
section 4.1 (both losses) and figure 6 (their code: uniformity is the mean over the two views).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from dlrun.functional.contrast import alignment as distance
from dlrun.functional.contrast import gaussian_pairs, stacked, unit
from dlrun.ranges import NonNegative, Positive
from dlrun.registry import facts


@facts(couples_rows=True, kind="contrastive")
def align_uniform(
    out: Any,
    y: Any,
    *,
    alignment: NonNegative,
    uniformity: NonNegative,
    alpha: Positive,
    t: Positive,
    views: Literal["stacked", "alternating"],
) -> Tensor:
    """alignment x mean distance^alpha of two views + uniformity x ln mean exp(-t distance^2) over pairs of rows; out as in `info_nce`.

    Where all embeddings are alike both are 0. Raises ValueError where `out` does not hold two views, or one row alone.
    """
    z = unit(stacked("align_uniform", out, y, views))
    if len(z) < 4:
        raise ValueError("align_uniform needs at least two rows a batch: of one there is no pair to keep apart")
    with torch.autocast(z.device.type, enabled=False):
        together = distance(z, alpha).mean()
        apart = sum(gaussian_pairs(view, t).mean().log() for view in z.chunk(2)) / 2
        return alignment * together + uniformity * apart
