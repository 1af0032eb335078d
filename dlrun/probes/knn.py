"""Accuracy of k nearest neighbours on frozen features: train rows vote on those of a split, or each train row is left out in turn.

Source: Cover, Hart 1967, "Nearest Neighbor Pattern Classification", section II; on learned features with cosine: Wu et al. 2018,
"Unsupervised Feature Learning via Non-Parametric Instance Discrimination", section 3.4.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dlrun.probes._features import features
from dlrun.ranges import Count
from dlrun.trained import Trained

CHUNK = 512


def knn(
    run: Trained,
    *,
    k: Count,
    metric: Literal["cosine", "euclidean"],
    network: str | None,
    layer: str | None,
    pool: Literal["flatten", "mean"],
    rows: Count | None,
    split: Literal["train", "val", "test"],
) -> dict[str, float]:
    """accuracy on `split` (train: leave-one-out), majority (share of the commonest train class there), rows that vote, features.

    The class with most votes among the k nearest wins, of equal ones that of the nearest row. Raises ValueError without enough rows.
    """
    x, y = features(run, "train", rows, network, layer, pool)
    alone = split == "train"
    held, truth = (x, y) if alone else features(run, split, None, network, layer, pool)
    if k > len(x) - alone:
        raise ValueError(f"k={k} neighbours of {len(x)} train rows{' with one left out' if alone else ''}: say a smaller k")
    guess = vote(x, y, held, k, metric, alone)
    common = torch.bincount(y).argmax()
    return {
        "accuracy": float((guess == truth).double().mean()),
        "majority": float((truth == common).double().mean()),
        "rows": len(x),
        "features": x.shape[1],
    }


def vote(x: Tensor, y: Tensor, held: Tensor, k: int, metric: str, leave_out: bool) -> Tensor:
    """Classes [M] that the k nearest of x [N, D], y [N] give to held [M, D]; `leave_out`: row m of held is row m of x and has no vote."""
    if metric == "cosine":
        x, held = F.normalize(x, dim=1), F.normalize(held, dim=1)
    classes = int(y.max()) + 1
    tie = 0.5 ** torch.arange(2, k + 2).clamp(max=60).double()[:, None]  # all together less than a vote; each more than those behind it
    found = []
    for low in range(0, len(held), CHUNK):
        distance = torch.cdist(held[low : low + CHUNK], x, compute_mode="donot_use_mm_for_euclid_dist")
        if leave_out:
            distance[torch.arange(len(distance)), low + torch.arange(len(distance))] = torch.inf
        near = F.one_hot(y[distance.topk(k, largest=False).indices], classes).double()
        found.append((near.sum(1) + (near * tie).sum(1)).argmax(1))
    return torch.cat(found)
