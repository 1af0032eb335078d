"""Triplet loss with mining inside the batch: an embedding is to be nearer to those of its own class than to others, by a margin.

Source: Schroff, Kalenichenko, Philbin 2015, "FaceNet", eq. 3 and section 3.2 (`semi_hard`; where no negative lies beyond the positive, the
farthest one); Hermans, Beyer, Leibe 2017, "In Defense of the Triplet Loss for Person Re-Identification", eq. 5 (`hard`) and eq. 6 (`all`).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dlrun.ranges import Positive
from dlrun.registry import facts


def _count(y: Tensor, mining: str, **_: Any) -> Tensor:
    """Triplets (per pair or per row, as mined) that the labels y [B] allow."""
    same, other = _pairs(y)
    positives, negatives = same.sum(1), other.sum(1)
    if mining == "hard":
        return ((positives > 0) & (negatives > 0)).sum()
    return (positives * (negatives if mining == "all" else negatives > 0)).sum()


@facts(couples_rows=True, kind="contrastive", count=_count)
def triplet(
    out: Any,
    y: Any,
    *,
    margin: Positive,
    mining: Literal["semi_hard", "hard", "all"],
    distance: Literal["squared", "euclidean"],
    normalize: bool,
) -> Tensor:
    """Mean over mined triplets of max(0, d(anchor, positive) - d(anchor, negative) + margin); 0 where the batch allows no triplet.

    out [B, D] with labels y [B]; or a tuple of two views [B, D] each, with labels or, where y is None, each row a class of its own.
    Raises ValueError for anything else.
    """
    z, labels = _labelled(out, y)
    with torch.autocast(z.device.type, enabled=False):
        z = z if z.dtype == torch.float64 else z.float()
        z = F.normalize(z, dim=1) if normalize else z
        squares = z.square().sum(1)
        apart = (squares[:, None] + squares - 2 * z @ z.T).clamp(min=0)
        apart = apart if distance == "squared" else apart.clamp(min=1e-12).sqrt()
        same, other = _pairs(labels)
        count = _count(labels, mining).clamp(min=1)
        return {"hard": _hard, "semi_hard": _semi_hard, "all": _all}[mining](apart, same, other, margin) / count


def _labelled(out: Any, y: Any) -> tuple[Tensor, Tensor]:
    """(embeddings [N, D], labels [N])."""
    views = tuple(out) if isinstance(out, (tuple, list)) else (out,)
    if not all(isinstance(z, Tensor) and z.dim() == 2 and z.shape == views[0].shape for z in views) or (y is None and len(views) == 1):
        raise ValueError("triplet takes embeddings [B, D] with labels [B], or a tuple of two views [B, D] each")
    labels = torch.arange(len(views[0]), device=views[0].device) if y is None else y
    if labels.is_floating_point() or labels.shape != views[0].shape[:1]:
        raise ValueError(
            f"triplet: embeddings {list(views[0].shape)} go with one whole-number label each; found targets {list(labels.shape)}"
        )
    return torch.cat(views), labels.repeat(len(views))


def _pairs(y: Tensor) -> tuple[Tensor, Tensor]:
    """(same class and another row, another class), bool [B, B]; rows labelled below 0 take no part."""
    taking = (y >= 0)[:, None] & (y >= 0)
    same = (y[:, None] == y) & taking
    return same & ~torch.eye(len(y), dtype=torch.bool, device=y.device), (y[:, None] != y) & taking


def _hard(apart: Tensor, same: Tensor, other: Tensor, margin: float) -> Tensor:
    farthest = torch.where(same, apart, -torch.inf).amax(1)
    nearest = torch.where(other, apart, torch.inf).amin(1)
    whole = same.any(1) & other.any(1)
    return (farthest[whole] - nearest[whole] + margin).clamp(min=0).sum()


def _semi_hard(apart: Tensor, same: Tensor, other: Tensor, margin: float) -> Tensor:
    """Negatives sorted by distance, a row each: the first beyond the positive, or the last there is."""
    ordered = torch.where(other, apart, torch.inf).sort(1).values
    place = torch.searchsorted(ordered.detach(), apart.detach().contiguous(), right=True)
    chosen = ordered.gather(1, place.minimum(other.sum(1, keepdim=True) - 1).clamp(min=0))
    valid = same & other.any(1, keepdim=True)
    return (apart - chosen + margin)[valid].clamp(min=0).sum()


def _all(apart: Tensor, same: Tensor, other: Tensor, margin: float) -> Tensor:
    """Every triplet without writing B^3 of them down: negatives nearer than d + margin are a prefix of the sorted ones."""
    ordered = torch.where(other, apart, torch.inf).sort(1).values
    sums = F.pad(torch.where(ordered.isinf(), 0.0, ordered).cumsum(1), (1, 0))
    reach = apart + margin
    near = torch.searchsorted(ordered.detach(), reach.detach().contiguous())
    return (near * reach - sums.gather(1, near))[same].sum()
