"""Embeddings of two views of one thing. See contrastive.yaml."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun import DataSpec, Splits, register

FEATURES, WIDTH = 16, 8
MIX = torch.randn(4, FEATURES, generator=torch.Generator().manual_seed(0))


def draw(rows: int, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Two views of a thing share four numbers; the other twelve directions are noise of their own."""
    source = torch.Generator().manual_seed(seed)
    thing = torch.randn(rows, 4, generator=source) @ MIX
    return {"x": tuple(thing * 0.5 + torch.randn(rows, FEATURES, generator=source) * 0.8 for _ in range(2))}


@register.dataset
def con_views() -> Splits:
    spec = DataSpec((FEATURES,), (WIDTH,), "contrastive")
    return Splits(draw(1500, 1), draw(320, 2), draw(1280, 3), spec=spec)


@register.dataset
def con_triplets() -> Splits:
    """An anchor, another view of it, and something else."""

    def rows(count: int, seed: int) -> dict[str, tuple[Tensor, ...]]:
        one, two = draw(count, seed)["x"]
        return {"x": (one, two, one.roll(1, 0))}

    return Splits(rows(1500, 1), rows(320, 2), rows(1280, 3), spec=DataSpec((FEATURES,), (WIDTH,), "contrastive"))


@register.model
class con_net(nn.Module):
    """All views through one network, stacked: first views, then second ones."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, WIDTH))

    def forward(self, x: tuple[Tensor, ...]) -> Tensor:
        return F.normalize(self.net(torch.cat(tuple(x))), dim=1)


def crossed(out: Tensor, positive: Tensor, masked: bool = True) -> Tensor:
    likeness = out @ out.T / 0.2
    if masked:
        likeness = likeness.masked_fill(torch.eye(len(out), dtype=torch.bool), -1e9)
    return F.cross_entropy(likeness, positive)


@register.loss
def con_loss(out, y) -> Tensor:
    return crossed(out, torch.arange(len(out)).roll(len(out) // 2))


@register.loss
def con_loss_neighbours(out, y) -> Tensor:
    """Pairs are taken to alternate, but they are stacked."""
    rows = torch.arange(len(out))
    return crossed(out, rows + 1 - 2 * (rows % 2))


@register.loss
def con_loss_itself(out, y) -> Tensor:
    """The positive of each row is the row itself, which nobody masked."""
    return crossed(out, torch.arange(len(out)), masked=False)


@register.loss
def con_loss_margin(out, y) -> Tensor:
    return F.triplet_margin_loss(*out.chunk(3), margin=0.5)


@register.metric(best="max", batches=False)
def con_found(out, y):
    """Share of first views whose nearest second view, among 64, is their own."""
    one, two = out.chunk(2)
    hits = [(a @ b.T).argmax(1) == torch.arange(len(a)) for a, b in zip(one.split(64), two.split(64))]
    return torch.cat(hits).float().mean()


@register.metric(best="max")
def con_order(out, y):
    """Share of triplets in which the other view lies nearer than the other thing."""
    anchor, same, other = out.chunk(3)
    return ((anchor - same).norm(dim=1) < (anchor - other).norm(dim=1)).float().mean()


@register.optimizer
def con_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)
