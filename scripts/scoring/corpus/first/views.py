"""Two recordings of one machine are to lie together: contrastive learning of sensor vectors. See views.yaml."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from dlrun import Splits, register

SENSORS, STATES = 20, 6
_fixed = torch.Generator().manual_seed(11)
CENTRES = 1.2 * torch.randn(STATES, 4, generator=_fixed)
CONTENT = torch.randn(4, SENSORS, generator=_fixed) / 2
WEATHER = torch.randn(4, SENSORS, generator=_fixed) / 2


def machines(rows: int, seed: int) -> tuple[Tensor, Tensor, torch.Generator]:
    """What is constant of each machine, and in which of six states it is."""
    g = torch.Generator().manual_seed(seed)
    state = torch.randint(STATES, (rows,), generator=g)
    return (CENTRES[state] + 0.4 * torch.randn(rows, 4, generator=g)) @ CONTENT, state, g


def recorded(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two recordings of each machine, [rows, 2, 20], each in weather of its own; and the state."""
    steady, state, g = machines(rows, seed)
    weather = 1.5 * torch.randn(rows, 2, 4, generator=g) @ WEATHER
    return steady[:, None] + weather + 0.1 * torch.randn(rows, 2, SENSORS, generator=g), state


@register.dataset
def con2_machines() -> Splits:
    return Splits(recorded(2000, 1), recorded(512, 2), recorded(1024, 3))


class Remote(Dataset):
    """Weather is drawn whenever an item is read; `fixed` draws the same for the same item."""

    def __init__(self, rows: int, seed: int, fixed: bool = False) -> None:
        self.steady, self.state, _ = machines(rows, seed)
        self.fixed = fixed

    def __len__(self) -> int:
        return len(self.state)

    def record(self, index: int, g: torch.Generator | None) -> Tensor:
        return self.steady[index] + 1.5 * torch.randn(4, generator=g) @ WEATHER + 0.1 * torch.randn(SENSORS, generator=g)

    def pair(self, index: int, g: torch.Generator | None) -> tuple[Tensor, Tensor]:
        return self.record(index, g), self.record(index, g)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        g = torch.Generator().manual_seed(index) if self.fixed else None
        return torch.stack(self.pair(index, g)), self.state[index]


class RemoteOnce(Remote):
    """The second recording is the first one."""

    def pair(self, index: int, g: torch.Generator | None) -> tuple[Tensor, Tensor]:
        first = self.record(index, g)
        return first, first


@register.dataset
def con2_remote() -> Splits:
    return Splits(Remote(2000, 1), Remote(512, 2, fixed=True), Remote(1024, 3, fixed=True))


@register.dataset
def con2_remote_once() -> Splits:
    return Splits(RemoteOnce(2000, 1), RemoteOnce(512, 2, fixed=True), Remote(1024, 3, fixed=True))


class Together(Dataset):
    """Recordings of the same or of two different machines, y says whether they are the same."""

    def __init__(self, rows: int, seed: int) -> None:
        self.pairs, self.state = recorded(rows, seed)

    def __len__(self) -> int:
        return 2 * len(self.state)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        machine, same = index // 2, index % 2
        other = machine if same else (machine * 7 + 13) % len(self.state)
        return torch.stack((self.pairs[machine, 0], self.pairs[other, 1])), torch.tensor(float(same or other == machine))


@register.dataset
def con2_together() -> Splits:
    return Splits(Together(1500, 1), Together(300, 2), Together(600, 3))


def tower(outputs: int, *, norm: bool = False, width: int = 48) -> nn.Sequential:
    middle = [nn.BatchNorm1d(width)] if norm else []
    return nn.Sequential(nn.Linear(SENSORS, width), *middle, nn.ReLU(), nn.Linear(width, outputs))


@register.model
class con2_net(nn.Module):
    """Embeddings [2B, 8]: all first views, then all second ones."""

    def __init__(self, *, outputs: int = 8) -> None:
        super().__init__()
        self.tower = tower(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.tower(x[:, 0]), self.tower(x[:, 1])))


@register.model
class con2_net_dropped(con2_net):
    """The first view is embedded twice."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.tower(x[:, 0]), self.tower(x[:, 0])))


@register.model
class con2_net_projected(nn.Module):
    """Batch norm in the tower and, without scale and shift, at the end of the projection head."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = tower(16, norm=True)
        self.head = nn.Sequential(nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8, bias=False), nn.BatchNorm1d(8, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.tower(x.transpose(0, 1).flatten(0, 1)))


@register.model
class con2_siamese(nn.Module):
    """Predictions and targets of both views: each view is to tell the other, targets give no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(*tower(16, norm=True), nn.BatchNorm1d(16, affine=False))
        self.guess = nn.Sequential(nn.Linear(16, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 16))

    def target(self, z: Tensor) -> Tensor:
        return z.detach()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        first, second = self.tower(x[:, 0]), self.tower(x[:, 1])
        return torch.cat((first, second)), self.guess(first), self.guess(second), self.target(second), self.target(first)


@register.model
class con2_teacher(nn.Module):
    """Targets come from a slow copy of the tower, moved at every forward pass in training."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(*tower(16, norm=True), nn.BatchNorm1d(16, affine=False))
        self.guess = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16))
        self.slow = copy.deepcopy(self.tower).requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if self.training:
            with torch.no_grad():
                for theirs, ours in zip(self.slow.parameters(), self.tower.parameters(), strict=True):
                    theirs.lerp_(ours, 0.05)
        first, second = self.tower(x[:, 0]), self.tower(x[:, 1])
        with torch.no_grad():
            targets = self.slow(x[:, 1]), self.slow(x[:, 0])
        return torch.cat((first, second)), self.guess(first), self.guess(second), *targets


@register.loss
class con2_xent(nn.Module):
    """Normalised temperature-scaled cross entropy over stacked views."""

    def __init__(self, *, temperature: float = 0.2) -> None:
        super().__init__()
        self.temperature = temperature

    def similar(self, out: Tensor) -> Tensor:
        z = F.normalize(out, dim=1)
        return (z @ z.t() / self.temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -1e9)

    def partner(self, rows: int) -> Tensor:
        return torch.arange(rows).roll(rows // 2)

    def forward(self, out, y) -> Tensor:
        return F.cross_entropy(self.similar(out), self.partner(len(out)))


@register.loss
class con2_xent_alternating(con2_xent):
    """Takes the neighbouring row for the partner, as if views alternated."""

    def partner(self, rows: int) -> Tensor:
        return torch.arange(rows) ^ 1


@register.loss
class con2_xent_pushed(con2_xent):
    """The similarity is a distance, so that the cross entropy pushes partners apart."""

    def similar(self, out: Tensor) -> Tensor:
        z = F.normalize(out, dim=1)
        return (torch.cdist(z, z) / self.temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -1e9)


@register.loss
def con2_cosine(out, y) -> Tensor:
    _, p1, p2, t1, t2 = out
    return -(F.cosine_similarity(p1, t1).mean() + F.cosine_similarity(p2, t2).mean()) / 2


@register.loss
def con2_triplets(out, y) -> Tensor:
    """Each first view against its partner and the nearest stranger that is farther; many rows have no loss in the end."""
    a, p = F.normalize(out, dim=1).chunk(2)
    between = torch.cdist(a, p)
    own = between.diagonal()
    strangers = between + 10.0 * ((between <= own[:, None]) | torch.eye(len(a), dtype=torch.bool))
    return F.relu(own - strangers.min(1).values + 0.3).mean() + F.relu(own - between.roll(1, 0).diagonal() + 0.3).mean()


@register.loss
def con2_decorrelated(out, y) -> Tensor:
    """Columns of the two views are to correlate like the identity; a loss over columns, not rows."""
    a, b = ((z - z.mean(0)) / (z.std(0) + 1e-5) for z in out.chunk(2))
    c = a.t() @ b / len(a)
    return (c.diagonal() - 1).square().sum() + 0.05 * (c - torch.diag(c.diagonal())).square().sum()


@register.loss
def con2_labelled(out, y) -> Tensor:
    """All recordings in the same state are partners."""
    z, state = F.normalize(out, dim=1), y.repeat(2)
    self_ = torch.eye(len(z), dtype=torch.bool)
    logs = F.log_softmax((z @ z.t() / 0.3).masked_fill(self_, -1e9), dim=1)
    partners = ((state[:, None] == state) & ~self_).float()
    return -((logs * partners).sum(1) / partners.sum(1).clamp(min=1)).mean()


@register.loss
def con2_margin(out, y) -> Tensor:
    """The same come close, others go apart as far as a margin."""
    a, b = out.chunk(2)
    apart = (a - b).square().sum(1).add(1e-8).sqrt()
    return (y * apart.square() + (1 - y) * F.relu(2.0 - apart).square()).mean()


@register.metric(best="max", batches=False)
def con2_neighbour(out, y) -> Tensor:
    """Share of second views whose five nearest first views are mostly in their state."""
    first, second = F.normalize(out, dim=1).chunk(2)
    near = (second @ first.t()).fill_diagonal_(-2.0).topk(5, dim=1).indices
    return (y[near].mode(1).values == y).float().mean()


@register.metric(best="max", batches=False)
def con2_told_apart(out, y) -> Tensor:
    """Area under the curve of telling same from other by distance."""
    a, b = out.chunk(2)
    apart = (a - b).norm(dim=1)
    ours, theirs = apart[y == 1], apart[y == 0]
    return (ours[:, None] < theirs).float().mean() + 0.5 * (ours[:, None] == theirs).float().mean()


@register.optimizer
def con2_adam(named_parameters, *, lr: float = 2e-3, weight_decay: float = 0.0):
    return torch.optim.Adam([p for _, p in named_parameters if p.requires_grad], lr=lr, weight_decay=weight_decay)


@register.optimizer
def con2_momentum(named_parameters, *, lr: float = 0.05, weight_decay: float = 5e-4):
    return torch.optim.SGD([p for _, p in named_parameters if p.requires_grad], lr=lr, momentum=0.9, weight_decay=weight_decay)


@register.schedule
def con2_warm_up(step, steps, *, warm: int = 20000) -> float:
    """Straight up to the full rate."""
    return min(1.0, (step + 1) / warm)
