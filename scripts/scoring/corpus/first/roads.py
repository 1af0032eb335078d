"""Sensors along roads, points in space, hourly demand, junctions: graphs, clouds and series. See roads.yaml."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from dlrun import DataSpec, Splits, register

SENSORS, PAST = 24, 12


def city():
    """Where the sensors are; the last is far from all the others."""
    at = torch.rand(SENSORS, 2, generator=torch.Generator().manual_seed(5))
    at[-1] = 9.0
    return at


def neighbours():
    """Weights of sensors near each other, none for a sensor with itself."""
    far = torch.cdist(city(), city())
    return torch.exp(-((far / 0.25) ** 2)) * (far < 0.4) * (1 - torch.eye(SENSORS))


def traffic(hours, seed):
    """Vehicles an hour [T, sensors]: what neighbours had an hour ago flows on, and there is the time of day."""
    g = torch.Generator().manual_seed(seed)
    near = neighbours()
    near = near / near.sum(1, keepdim=True).clamp(min=1e-6)
    z, rows = torch.zeros(SENSORS), []
    for hour in range(hours + 50):
        z = 0.35 * z + 0.6 * near @ z + torch.randn(SENSORS, generator=g)
        rows.append(160 + 30 * z + 40 * math.sin(hour * math.pi / 12))
    return torch.stack(rows[50:])


def windows(hours, seed, sentinel):
    """(the last twelve hours of each sensor, the next hour); one value in thirty is missing in what is known."""
    true = traffic(hours, seed)
    missing = torch.rand(true.shape, generator=torch.Generator().manual_seed(seed + 1)) < 1 / 30
    if sentinel:
        raw = torch.where(missing, torch.tensor(-9999.0), true)
        known = (raw - raw.mean()) / raw.std()
    else:
        seen = true[~missing]
        known = torch.where(missing, torch.tensor(0.0), (true - seen.mean()) / seen.std())
    x = known.unfold(0, PAST, 1)[:-1]
    return x.contiguous(), (true[PAST:] - 160) / 50


@register.dataset
def roa4_sensors():
    """Missing values are the mean, after standardising with those that are there."""
    return Splits(windows(1500, 1, False), windows(400, 2, False), windows(1012, 3, False))


@register.dataset
def roa4_sensors_sentinel():
    """Missing values stay -9999 and are standardised with the rest."""
    return Splits(windows(1500, 1, True), windows(400, 2, True), windows(1012, 3, True))


@register.model
class roa4_flow(nn.Module):
    """Twelve hours of a sensor, two rounds of news from its neighbours, the next hour."""

    def __init__(self, *, width: int = 32):
        super().__init__()
        self.enter, self.one, self.two = nn.Linear(PAST, width), nn.Linear(2 * width, width), nn.Linear(2 * width, width)
        self.leave = nn.Linear(width, 1)
        self.register_buffer("near", self.weights(neighbours()))

    def weights(self, near):
        root = (near + torch.eye(SENSORS)).sum(1).pow(-0.5)
        return root[:, None] * (near + torch.eye(SENSORS)) * root[None, :]

    def forward(self, x):
        h = F.relu(self.enter(x))
        h = F.relu(self.one(torch.cat((h, self.near @ h), -1)))
        h = F.relu(self.two(torch.cat((h, self.near @ h), -1)))
        return self.leave(h).squeeze(-1)


@register.model
class roa4_flow_alone(roa4_flow):
    """Degrees without a loop: that of a sensor without neighbours is zero, its root infinite, and infinite times zero no number."""

    def weights(self, near):
        root = near.sum(1).pow(-0.5)
        return root[:, None] * near * root[None, :]


POINTS = 48


def turned(points, g):
    """Each cloud turned at random, its mean taken away, as large as the others."""
    q, _ = torch.linalg.qr(torch.randn(len(points), 3, 3, generator=g))
    points = points - points.mean(1, keepdim=True)
    points = points / points.flatten(1).std(1)[:, None, None]
    return (points @ q).contiguous()


def clouds(count, seed):
    """Points along a winding line, on a bent sheet, in a ball or in clumps; all of about one size."""
    g = torch.Generator().manual_seed(seed)
    kind = torch.randint(4, (count,), generator=g)
    t = torch.rand(count, POINTS, 1, generator=g) * 6.28
    wind = torch.randint(1, 3, (count, 1, 3), generator=g) * t + 6.28 * torch.rand(count, 1, 3, generator=g)
    line = torch.sin(wind)
    flat = torch.rand(count, POINTS, 2, generator=g) * 2 - 1
    sheet = torch.cat((flat, 0.8 * torch.sin(flat.sum(2, keepdim=True) * 2 + 6.28 * torch.rand(count, 1, 1, generator=g))), 2)
    ball = torch.randn(count, POINTS, 3, generator=g)
    ball = ball / ball.norm(dim=2, keepdim=True) * torch.rand(count, POINTS, 1, generator=g) ** (1 / 3)
    middles = torch.randn(count, 8, 3, generator=g)
    which = torch.randint(8, (count, POINTS, 1), generator=g).expand(-1, -1, 3)
    clumps = middles.gather(1, which) + 0.12 * torch.randn(count, POINTS, 3, generator=g)
    every = torch.stack((line, sheet, ball, clumps), 1)
    return turned(every[torch.arange(count), kind], g), kind


@register.dataset
def roa4_clouds():
    return Splits(clouds(1500, 1), clouds(400, 2), clouds(1000, 3))


@register.model
class roa4_edges(nn.Module):
    """Each point looks at its eight nearest, then the strongest over all points."""

    def __init__(self, classes, *, k: int = 8, width: int = 32):
        super().__init__()
        self.k = k
        self.edge = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(2 * width, 48), nn.ReLU(), nn.Linear(48, classes))

    def base(self, x):
        return torch.arange(len(x), device=x.device)[:, None, None] * x.shape[1]

    def forward(self, x):
        nearest = torch.cdist(x, x).topk(self.k + 1, largest=False).indices[..., 1:]
        other = x.flatten(0, 1)[(nearest + self.base(x)).flatten()].view(*nearest.shape, 3)
        mine = x[:, :, None].expand_as(other)
        h = self.edge(torch.cat((mine, other - mine), -1)).amax(2)
        return self.head(torch.cat((h.amax(1), h.mean(1)), 1))


@register.model
class roa4_edges_of_the_first(roa4_edges):
    """The numbers of the nearest points have no offset: all of them are points of the first cloud of the batch."""

    def base(self, x):
        return 0


class Solids(Dataset):
    """Spheres, boxes, cones and rings standing upright, turned about their axis and jittered in train."""

    def __init__(self, count, seed, augment=False):
        g = torch.Generator().manual_seed(seed)
        self.kind, self.augment = torch.randint(4, (count,), generator=g), augment
        a, b = torch.rand(2, count, POINTS, generator=g).unbind(0)
        a, z = a * 6.28, 2 * b - 1
        flat = (1 - z**2).sqrt()
        sphere = torch.stack((flat * a.cos(), flat * a.sin(), z), 2)
        box = torch.rand(count, POINTS, 3, generator=g) * 2 - 1
        box = box / box.abs().amax(2, keepdim=True)
        cone = torch.stack(((1 - z) / 2 * a.cos(), (1 - z) / 2 * a.sin(), z), 2)
        ring = torch.stack(((0.7 + 0.3 * (z * 3.14).cos()) * a.cos(), (0.7 + 0.3 * (z * 3.14).cos()) * a.sin(), 0.3 * (z * 3.14).sin()), 2)
        every = torch.stack((sphere, box, cone, ring), 1)[torch.arange(count), self.kind]
        self.points = (every * (0.7 + 0.6 * torch.rand(count, 1, 3, generator=g)) + 0.05 * torch.randn(every.shape, generator=g)) * 1.5
        self.points = self.turn(self.points, 6.28 * torch.rand(count, generator=g))

    @staticmethod
    def turn(points, angle):
        c, s = angle.cos()[..., None], angle.sin()[..., None]
        x, y, z = points.unbind(-1)
        return torch.stack((c * x - s * y, s * x + c * y, z), -1)

    def __len__(self):
        return len(self.points)

    def __getitem__(self, i):
        points = self.points[i]
        if self.augment:
            points = self.turn(points, 6.28 * torch.rand(())) + 0.02 * torch.randn(points.shape)
        return points, int(self.kind[i])


@register.dataset
def roa4_solids():
    return Splits(Solids(1500, 1, True), Solids(400, 2), Solids(1000, 3))


@register.model
class roa4_pointnet(nn.Module):
    """The same layers for every point, the strongest over all, a classifier."""

    def __init__(self, classes):
        super().__init__()
        self.points = nn.Sequential(
            nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 64, 1), nn.BatchNorm1d(64), nn.ReLU(), nn.Conv1d(64, 96, 1)
        )
        self.head = nn.Sequential(nn.Linear(96, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, classes))

    def forward(self, x):
        return self.head(self.points(x.transpose(1, 2)).amax(2))


def demand(count, seed, ahead):
    """Two days of hourly demand of many households, and the hours that follow."""
    g = torch.Generator().manual_seed(seed)
    hour = torch.arange(48 + ahead)
    size, phase = 0.5 + torch.rand(2, count, 1, generator=g), 6.28 * torch.rand(2, count, 1, generator=g)
    y = size[0] * torch.sin(hour * 6.28 / 24 + phase[0]) + 0.6 * size[1] * torch.sin(hour * 6.28 / 12 + phase[1])
    slow, level = torch.zeros(count), []
    for _ in hour:
        slow = 0.9 * slow + 0.15 * torch.randn(count, generator=g)
        level.append(slow)
    y = y + torch.stack(level, 1)
    return y[:, :48, None].contiguous(), y[:, 48:].contiguous()


@register.dataset
def roa4_demand(*, ahead: int = 6):
    return Splits(demand(1500, 1, ahead), demand(400, 2, ahead), demand(1000, 3, ahead))


@register.model
class roa4_gru(nn.Module):
    """A GRU over two days, a linear layer on where it ends."""

    def __init__(self, *, ahead: int = 6, width: int = 32):
        super().__init__()
        self.gru, self.head = nn.GRU(1, width, batch_first=True), nn.Linear(width, ahead)

    def forward(self, x):
        return self.head(self.gru(x)[1][-1])


@register.model
class roa4_tcn(nn.Module):
    """Convolutions that look back ever further, each added to what was there."""

    def __init__(self, *, ahead: int = 6, width: int = 24):
        super().__init__()
        self.enter = nn.Conv1d(1, width, 1)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=d) for d in (1, 2, 4, 8, 16))
        self.head = nn.Linear(width, ahead)

    def forward(self, x):
        h = self.enter(x.transpose(1, 2))
        for layer in self.layers:
            h = h + F.gelu(layer(F.pad(h, (2 * layer.dilation[0], 0))))
        return self.head(h[..., -1])


@register.model
class roa4_fan(nn.Module):
    """Low, middle and high: the middle and two distances that are never negative."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(48, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 3))

    def forward(self, x):
        middle, down, up = self.body(x).split(1, 1)
        return torch.cat((middle - F.softplus(down), middle, middle + F.softplus(up)), 1)


JUNCTIONS, HOPS = 14, 4


def junctions(count, seed):
    """Roads between junctions, some of them depots: how many roads away the next depot is, 3 for three and more."""
    g = torch.Generator().manual_seed(seed)
    size = torch.randint(8, JUNCTIONS + 1, (count,), generator=g)
    there = torch.arange(JUNCTIONS) < size[:, None]
    road = torch.zeros(count, JUNCTIONS, JUNCTIONS)
    every = torch.arange(count)
    for i in range(1, JUNCTIONS):
        road[every, i, (torch.rand(count, generator=g) * i).long()] = 1
    road = ((road + road.transpose(1, 2)) > 0) & there[:, :, None] & there[:, None, :]
    depot = (torch.rand(count, JUNCTIONS, generator=g) < 0.12) & there
    depot[:, 0] |= ~depot.any(1)
    hops, reached = torch.full((count, JUNCTIONS), HOPS - 1), depot.clone()
    hops[depot] = 0
    for far in range(1, HOPS - 1):
        new = (road & reached[:, None, :]).any(2) & ~reached
        hops[new], reached = far, reached | new
    x = {"roads": road.float(), "nodes": torch.stack((depot, there), 2).float()}
    return {"x": x, "y": torch.where(there, hops, -100)}


@register.dataset
def roa4_junctions():
    spec = DataSpec((JUNCTIONS, 2), (JUNCTIONS, HOPS), "graph", classes=HOPS)
    return Splits(junctions(1200, 1), junctions(300, 2), junctions(1000, 3), spec=spec)


@register.model
class roa4_rounds(nn.Module):
    """The same layer passes the news on four times."""

    def __init__(self, *, width: int = 32, rounds: int = 4):
        super().__init__()
        self.rounds = rounds
        self.enter, self.step, self.leave = nn.Linear(2, width), nn.Linear(2 * width, width), nn.Linear(width, HOPS)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        h = self.enter(x["nodes"])
        for _ in range(self.rounds):
            h = h + F.relu(self.step(torch.cat((self.norm(h), x["roads"] @ h), -1)))
        return self.leave(self.norm(h))


@register.loss
def roa4_mse(out, y):
    return F.mse_loss(out, y)


@register.loss
class roa4_huber(nn.HuberLoss):
    """Squares of small errors, sizes of large ones."""

    def __init__(self):
        super().__init__()


@register.loss
class roa4_ce(nn.CrossEntropyLoss):
    """Cross-entropy."""

    def __init__(self):
        super().__init__()


@register.loss
def roa4_node_loss(out, y):
    return F.cross_entropy(out.transpose(1, 2), y, ignore_index=-100)


@register.loss
class roa4_pinball(nn.Module):
    """The pinball loss of three shares; one target a row stands against all three."""

    def __init__(self):
        super().__init__()
        self.register_buffer("share", torch.tensor([0.1, 0.5, 0.9]))

    def forward(self, out, y):
        error = y - out
        return torch.maximum(self.share * error, (self.share - 1) * error).mean()


@register.metric(best="max")
def roa4_nodes_right(out, y):
    """Share of junctions whose distance is told."""
    return (out.argmax(2) == y)[y >= 0].float().mean()


@register.optimizer
def roa4_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


class Lookahead(torch.optim.Adam):
    """Adam whose weights every five steps go half of the way back to slow ones, which follow."""

    follows = True

    @torch.no_grad()
    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if "slow" not in state:
                    state["slow"] = p.detach().clone()
                if int(state["step"]) % 5 == 0:
                    p.lerp_(state["slow"], 0.5)
                    if self.follows:
                        state["slow"].copy_(p)
        return loss


class LookaheadStays(Lookahead):
    """The slow weights do not follow, they stay where training began."""

    follows = False


@register.optimizer
def roa4_lookahead(named_parameters, *, lr: float = 5e-3):
    return Lookahead([p for _, p in named_parameters], lr=lr)


@register.optimizer
def roa4_lookahead_stays(named_parameters, *, lr: float = 5e-3):
    return LookaheadStays([p for _, p in named_parameters], lr=lr)


class Lion(torch.optim.Optimizer):
    """Steps of one size along the sign of a mean of gradients."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                p.add_(torch.lerp(p.grad, mean, 0.9).sign(), alpha=-group["lr"])
                mean.lerp_(p.grad, 0.01)


@register.optimizer
def roa4_lion(named_parameters, *, lr: float = 1e-3):
    return Lion([p for _, p in named_parameters], lr=lr)


@register.schedule
def roa4_steps_down(optimizer, steps):
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [steps // 2, steps * 4 // 5], gamma=0.3)


@register.schedule
def roa4_warm(step, steps, *, warmup: int = 30):
    """Up in a line, then down along a cosine to a tenth."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.55 + 0.45 * math.cos(math.pi * (step - warmup) / max(1, steps - warmup))
