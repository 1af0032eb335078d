"""How far a sample lies from another, in the rows' own unit: 0 exactly where both come from one distribution.

Source: Szekely, Rizzo 2013, "Energy statistics: A class of statistics based on distances", definition 1, eq. 5, estimated without bias.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.registry import facts


@facts(best="min", whole=True, reads=("samples",), undefined="it needs two rows of each")
def energy_distance(out: Tensor, y: Tensor) -> Tensor:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| of samples out [N, ...] and real rows y [M, ...], Euclidean norms; of vectors further
    columns of y, a label, are not looked at.

    Pairs of a row with itself are left out: expected value 0 for samples of the same distribution, so that it may fall below 0.
    """
    x, y = out.flatten(1).double(), y.flatten(1)[:, : out[0].numel()].double()
    if min(len(x), len(y)) < 2:
        return torch.tensor(float("nan"))
    within = sum(torch.cdist(rows, rows).sum() / (len(rows) * (len(rows) - 1)) for rows in (x, y))
    return 2 * torch.cdist(x, y).mean() - within
