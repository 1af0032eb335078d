"""Whether rows fall into k clear groups, and which: k-means with careful seeding, judged by a silhouette.

Source: D. Arthur, S. Vassilvitskii, k-means++: the advantages of careful seeding, 2007; P. Rousseeuw, Silhouettes, 1987 (here to the
groups' centres, which costs N x k distances); R. Tibshirani, G. Walther, T. Hastie, Estimating the number of clusters in a data set via the
gap statistic, 2001 (what rows without groups look like).
"""

from __future__ import annotations

import torch
from torch import Tensor

STARTS, ROUNDS = 5, 20


def groups(x: Tensor, count: int) -> tuple[float, float, Tensor]:
    """(how clear `count` groups are, how clear they would be in rows without groups, the group of each row [N]) for rows x [N, D].

    Clear is 0 where a row lies as near to another group's centre as to its own, 1 where it lies on its own, -1 where one group has less
    than a fifth of its share of rows. Rows without groups are uniform along the principal axes of x.
    """
    clear, of = _best(x, count)
    left, sizes, axes = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    low, high = (left * sizes).amin(0), (left * sizes).amax(0)
    drawn = torch.rand(len(x), len(sizes), generator=torch.Generator().manual_seed(0))
    return clear, _best((low + (high - low) * drawn) @ axes, count)[0], of


def _best(x: Tensor, count: int) -> tuple[float, Tensor]:
    """The clearest of five starts."""
    x = (x - x.mean(0)) / x.std(0, correction=0).clamp(min=1e-6)
    generator = torch.Generator().manual_seed(0)
    best: tuple[float, Tensor] = (-1.0, torch.zeros(len(x), dtype=torch.int64))
    if count < 2 or len(x) < 2 * count:
        return best
    for _ in range(STARTS):
        centres = _seeds(x, count, generator)
        for _ in range(ROUNDS):
            of = torch.cdist(x, centres).argmin(1)
            sizes = torch.bincount(of, minlength=count)
            sums = torch.zeros_like(centres).index_add_(0, of, x)
            centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], centres)
        clear = _clear(x, centres, count)
        best = max(best, clear, key=lambda pair: pair[0])
    return best


def _seeds(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    chosen = [int(torch.randint(len(x), (1,), generator=generator))]
    for _ in range(count - 1):
        near = torch.cdist(x, x[chosen]).amin(1).square()
        chosen.append(int(torch.multinomial(near + 1e-12, 1, generator=generator)))
    return x[chosen].clone()


def _clear(x: Tensor, centres: Tensor, count: int) -> tuple[float, Tensor]:
    near = torch.cdist(x, centres)
    two = near.topk(2, largest=False)
    of = two.indices[:, 0]
    silhouette = float(((two.values[:, 1] - two.values[:, 0]) / two.values[:, 1].clamp(min=1e-12)).mean())
    small = int(torch.bincount(of, minlength=count).min()) < 0.2 * len(x) / count
    return (-1.0 if small else silhouette), of
