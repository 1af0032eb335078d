"""What losses and tasks over two views of a row share: putting views in one order, NT-Xent, alignment and uniformity.

Embeddings z [2B, D] hold both views of B rows, stacked: row b and row B + b belong together.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Views = Literal["stacked", "alternating"]


def stacked(loss: str, out: Any, y: Any, views: Views) -> Tensor:
    """Embeddings [2B, D], first views before second ones, from a tuple of two [B, D] or a tensor [2B, D] ordered as `views` says.

    Raises ValueError where `out` is neither, or has one row for each label of `y`: then there is one view only.
    """
    pair = tuple(out) if isinstance(out, (tuple, list)) and len(out) == 2 else ()
    if pair and all(isinstance(z, Tensor) and z.dim() == 2 and z.shape == pair[0].shape for z in pair):
        return torch.cat(pair)
    if not isinstance(out, Tensor) or out.dim() != 2 or len(out) % 2:
        found = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(f"{loss} takes embeddings of two views, a tensor [2B, D] or a tuple of two [B, D]; found {found}")
    z = out if views == "stacked" else torch.cat((out[::2], out[1::2]))
    if isinstance(y, Tensor) and len(y) == len(out):
        first, second = y.chunk(2) if views == "stacked" else (y[::2], y[1::2])
        if not torch.equal(first, second):
            raise ValueError(
                f"{loss}: {len(out)} embeddings for {len(y)} rows, so there is one view of each: say task=contrastive with augmentations, "
                "or let the network return both views"
            )
    return z


def unit(z: Tensor) -> Tensor:
    """z [N, D] on the unit sphere, in float32 at least: a cosine in bfloat16, divided by a temperature, is off by whole tenths."""
    return F.normalize(z if z.dtype == torch.float64 else z.float(), dim=1)


def nt_xent(z: Tensor, temperature: float, negatives: Literal["all", "across"]) -> Tensor:
    """Mean cross-entropy in nats of finding a row's other view by cosine similarity / temperature; z [2B, D] stacked.

    `all`: among the 2B - 1 other embeddings; `across`: among the B of the other view, both ways.
    """
    with torch.autocast(z.device.type, enabled=False):
        z = unit(z)
        rows = len(z) // 2
        if negatives == "across":
            likeness = z[:rows] @ z[rows:].T / temperature
            own = torch.arange(rows, device=z.device)
            return (F.cross_entropy(likeness, own) + F.cross_entropy(likeness.T, own)) / 2
        likeness = (z @ z.T / temperature).masked_fill(torch.eye(2 * rows, dtype=torch.bool, device=z.device), -torch.inf)
        return F.cross_entropy(likeness, torch.arange(2 * rows, device=z.device).roll(rows))


def alignment(z: Tensor, alpha: float = 2.0) -> Tensor:
    """Distance^alpha between the two views of each row, [B], in 0..2^alpha; z [2B, D] stacked, on the unit sphere."""
    first, second = z.chunk(2)
    return (first - second).square().sum(1).clamp(min=0 if alpha >= 2 else 1e-12) ** (alpha / 2)


def gaussian_pairs(z: Tensor, t: float = 2.0) -> Tensor:
    """exp(-t distance^2) of every pair of different rows, [N (N - 1) / 2]; z [N, D] on the unit sphere."""
    return torch.exp(-t * torch.pdist(z).square())
