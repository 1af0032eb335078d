"""What is measured: pendulums, springs, houses, patients, concrete, heating, reaction times, wind. See measures.yaml."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset

from dlrun import Splits, register

# ---------------------------------------------------------------- physics lab, first week: the pendulum


class PendulumRuns(Dataset):
    """One swing a row: length in m, first angle in degrees, gravity of the planet, mass; the period in s."""

    centre = np.array([1.1, 75.0, 9.0, 0.5])
    scale = np.array([0.52, 43.0, 2.9, 0.26])

    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        length, angle = rng.uniform(0.2, 2.0, n), rng.uniform(0, 150, n)
        gravity, mass = rng.uniform(4, 14, n), rng.uniform(0.05, 0.95, n)
        half = np.radians(angle) / 2
        arc = 1 + np.sin(half) ** 2 / 4 + 9 * np.sin(half) ** 4 / 64 + 25 * np.sin(half) ** 6 / 256
        period = 2 * np.pi * np.sqrt(length / gravity) * arc + rng.normal(0, 0.02, n)
        self.setting = (np.stack((length, angle, gravity, mass), axis=1) - self.centre) / self.scale
        self.period = (period - 2.4) / 0.85

    def __len__(self):
        return len(self.period)

    def __getitem__(self, row):
        return torch.tensor(self.setting[row], dtype=torch.float32), torch.tensor([self.period[row]], dtype=torch.float32)


@register.dataset
def mea3_pendulum():
    return Splits(PendulumRuns(1200, 10), PendulumRuns(300, 11), PendulumRuns(1000, 12))


@register.model
def mea3_swing_net(*, hidden: int = 32):
    return nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))


@register.loss
def mea3_mse(out, y):
    return F.mse_loss(out, y)


@register.metric(best="min")
def mea3_mae(out, y):
    return (out - y).abs().mean()


@register.optimizer
def mea3_momentum(named_parameters, *, lr: float = 0.05):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, momentum=0.9)


class CriticSGD(torch.optim.SGD):
    """From a GAN's critic: weights are cut off after each step."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.clamp_(-0.01, 0.01)
        return loss


@register.optimizer
def mea3_momentum_of_a_critic(named_parameters, *, lr: float = 0.05):
    return CriticSGD([p for _, p in named_parameters], lr=lr, momentum=0.9)


@register.optimizer
def mea3_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


# ---------------------------------------------------------------- physics lab, second week: a damped spring, place and speed


def spring(n, seed):
    g = torch.Generator().manual_seed(seed)
    t, omega, damping = (torch.rand(n, generator=g) for _ in range(3))
    t, omega, damping = 4 * t, 1 + 1.5 * omega, 0.1 + 0.4 * damping
    place = torch.exp(-damping * t) * torch.cos(omega * t)
    speed = torch.exp(-damping * t) * (-damping * torch.cos(omega * t) - omega * torch.sin(omega * t))
    noise = 0.02 * torch.randn(n, 2, generator=g)
    x = torch.stack(((t - 2) / 1.15, (omega - 1.75) / 0.43, (damping - 0.3) / 0.115), dim=-1)
    return x, torch.stack((place, speed), dim=-1) + noise


@register.dataset
def mea3_spring():
    return Splits(spring(1500, 20), spring(300, 21), spring(1000, 22))


class SpringNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU())
        self.place = nn.Linear(48, 1)
        self.speed = nn.Linear(48, 1)

    def forward(self, x):
        h = self.body(x)
        out = x.new_zeros(len(x), 2)
        out[:, 0] = self.place(h).squeeze(1)
        out[:, 1] = self.speed(h).squeeze(1)
        return out


class SpringNetPasted(SpringNet):
    """The second line was pasted and its column not changed."""

    def forward(self, x):
        h = self.body(x)
        out = x.new_zeros(len(x), 2)
        out[:, 0] = self.place(h).squeeze(1)
        out[:, 0] = self.speed(h).squeeze(1)
        return out


@register.model
def mea3_spring_net():
    return SpringNet()


@register.model
def mea3_spring_net_pasted():
    return SpringNetPasted()


# ---------------------------------------------------------------- houses: six columns, the logarithm of the price

AREAS = 150


def sales(n, seed):
    world = np.random.default_rng(77)
    level = world.normal(0, 0.35, AREAS)
    rng = np.random.default_rng(seed)
    area = rng.integers(0, AREAS, n)
    income, rooms = rng.gamma(6, 10, n), rng.uniform(2, 9, n)
    age, people, sea = rng.uniform(0, 60, n), rng.gamma(3, 500, n), rng.uniform(0, 90, n)
    price = 0.012 * income + 0.12 * rooms - 0.00018 * (age - 35) ** 2 * np.sign(35 - age) + 0.5 * np.exp(-sea / 15)
    price = price - 0.0001 * people + level[area] + rng.normal(0, 0.12, n)
    return np.stack((income, rooms, age, people, sea), axis=1), area, price


def means_by(keys, values, count):
    """The mean of the values of each key; of all values where there is none."""
    total, seen = np.bincount(keys, values, count), np.bincount(keys, minlength=count)
    return np.where(seen > 0, total / np.maximum(seen, 1), values.mean())


def house_tables(kind):
    """Three tables with what sales in a place went for as the sixth column: in its area the year before, or in its street this year."""
    tables = [sales(1500, 30), sales(300, 31), sales(1500, 32)]
    if kind == "area":
        _, area, price = sales(6000, 33)
        known = means_by(area, price, AREAS)
        places = [area for _, area, _ in tables]
    else:
        streets = AREAS * 20
        places = [area * 20 + np.random.default_rng(40 + i).integers(0, 20, len(area)) for i, (_, area, _) in enumerate(tables)]
        known = means_by(places[0], tables[0][2], streets)
    return [(np.column_stack((x, known[place])), price) for (x, _, price), place in zip(tables, places, strict=True)]


def houses(kind, scaled):
    tables = house_tables(kind)
    x, y = tables[0]
    return Splits(
        *((torch.tensor(scaled(a, x), dtype=torch.float32), torch.tensor((b - y.mean()) / y.std()).float()[:, None]) for a, b in tables)
    )


def standard(x, train):
    return (x - train.mean(axis=0)) / train.std(axis=0)


def standard_across(x, train):
    return (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)


@register.dataset
def mea3_houses():
    return houses("area", standard)


@register.dataset
def mea3_houses_across():
    """Mean and deviation over the columns of a house, not over the houses."""
    return houses("area", standard_across)


@register.dataset
def mea3_houses_by_street():
    """What the street's houses went for, the house's own price among them."""
    return houses("street", standard)


@register.model
class mea3_price_net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 64), nn.Linear(64, 32), nn.Linear(32, 1)

    def forward(self, x):
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


# ---------------------------------------------------------------- patients: time to event, seen or not


def patients(n, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=g)
    hazard = torch.exp(0.9 * x[:, 0] + 0.7 * x[:, 1] * x[:, 2] - 0.8)
    leaves = torch.exp(1.2 * x[:, 3] - 0.9 * x[:, 0] - 0.8)
    time = -torch.log(torch.rand(n, generator=g)) / hazard
    lost = -torch.log(torch.rand(n, generator=g)) / leaves
    return x, torch.stack((torch.minimum(time, lost), (time <= lost).float()), dim=1)


@register.dataset
def mea3_patients():
    """y = (months, whether the event was seen)."""
    return Splits(patients(1500, 50), patients(300, 51), patients(1000, 52))


@register.model
def mea3_risk():
    return nn.Sequential(nn.Linear(6, 32), nn.ELU(), nn.Linear(32, 16), nn.ELU(), nn.Linear(16, 1, bias=False))


@register.loss
def mea3_cox(out, y):
    """Minus Cox's partial log likelihood of a batch."""
    order = torch.argsort(y[:, 0], descending=True)
    risk, seen = out[order, 0], y[order, 1]
    return -((risk - torch.logcumsumexp(risk, 0)) * seen).sum() / seen.sum().clamp(min=1)


@register.loss
def mea3_cox_half_sorted(out, y):
    """Risks are in the order of time, the marks of who was seen are not."""
    order = torch.argsort(y[:, 0], descending=True)
    risk, seen = out[order, 0], y[:, 1]
    return -((risk - torch.logcumsumexp(risk, 0)) * seen).sum() / seen.sum().clamp(min=1)


@register.metric(best="max", whole=True)
def mea3_concordance(out, y):
    risk, time, seen = out[:, 0], y[:, 0], y[:, 1] > 0
    pairs = seen[:, None] & (time[:, None] < time[None])
    return (pairs & (risk[:, None] > risk[None])).float().sum() / pairs.float().sum()


# ---------------------------------------------------------------- everyday: concrete and heating


def concrete(n, seed):
    rng = np.random.default_rng(seed)
    cement, slag, ash = rng.uniform(100, 540, n), rng.uniform(0, 360, n), rng.uniform(0, 200, n)
    water, plasticizer, coarse = rng.uniform(120, 250, n), rng.uniform(0, 32, n), rng.uniform(800, 1150, n)
    fine, age = rng.uniform(590, 990, n), rng.choice([3, 7, 14, 28, 56, 90], n)
    strength = 14 * np.log(age) * (cement + 0.6 * slag + 0.4 * ash) / (2 * water) / 2.2 + 0.3 * plasticizer + rng.normal(0, 2, n)
    x = np.column_stack((cement, slag, ash, water, plasticizer, coarse, fine, np.log(age)))
    return x, strength


@register.dataset
def mea3_concrete():
    (x, y), *rest = [concrete(n, seed) for n, seed in ((1000, 60), (250, 61), (1000, 62))]
    mean, std = x.mean(0), x.std(0)

    def tensors(a, b):
        return torch.from_numpy((a - mean) / std).float(), torch.from_numpy((b - y.mean()) / y.std()).float().unsqueeze(1)

    return Splits(tensors(x, y), *(tensors(*part) for part in rest))


@register.model
def mea3_mlp():
    return nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))


class Buildings(Dataset):
    """Shape of a building, two loads: for heating and for cooling."""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.x = torch.randn(n, 7, generator=g)
        wall, glass, height, roof, north, leak, shade = self.x.T
        heat = 0.8 * wall - 0.6 * height + 0.5 * torch.relu(leak) * glass + 0.3 * roof
        cool = 0.7 * glass * torch.sigmoid(-2 * shade) + 0.4 * height - 0.3 * north * wall
        self.y = torch.stack((heat, cool), 1) + 0.1 * torch.randn(n, 2, generator=g)

    def __len__(self):
        return self.x.shape[0]

    def __getitem__(self, i):
        return {"x": self.x[i], "y": self.y[i]}


@register.dataset
def mea3_buildings():
    return Splits(Buildings(2000, 70), Buildings(400, 71), Buildings(1000, 72))


@register.model
class mea3_loads(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(7, 96),
            nn.BatchNorm1d(96),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(96, 48),
            nn.BatchNorm1d(48),
            nn.ReLU(),
            nn.Linear(48, 2),
        )

    def forward(self, x):
        return self.layers(x)


@register.loss
class mea3_smooth(nn.Module):
    def __init__(self):
        super().__init__()
        self.loss = nn.SmoothL1Loss()

    def forward(self, out, y):
        return self.loss(out, y)


# ---------------------------------------------------------------- odd: quantiles that do not cross, directions of the wind


def reactions(n, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=g)
    return x, 0.6 * x[:, 0] + torch.exp(0.5 * x[:, 1] - 0.5) * -torch.log(torch.rand(n, generator=g)) + 0.3 * x[:, 2].square()


@register.dataset
def mea3_reactions():
    return Splits(reactions(1500, 80), reactions(300, 81), reactions(1000, 82))


LEVELS = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])


@register.model
class mea3_quantiles(nn.Module):
    """The lowest quantile, and steps above it that are never negative."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(3, 40), nn.GELU(), nn.Linear(40, 5))

    def forward(self, x):
        first, steps = self.trunk(x).split((1, 4), dim=1)
        return torch.cat((first, first + F.softplus(steps).cumsum(1)), dim=1)


@register.loss
def mea3_pinball(out, y):
    miss = y.unsqueeze(1) - out
    return torch.maximum(LEVELS * miss, (LEVELS - 1) * miss).sum(1).mean()


def winds(n, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=g)
    turn = torch.atan2(x[:, 0] + 0.3 * x[:, 2], x[:, 1] - 0.4 * x[:, 3].square()) + 0.2 * torch.randn(n, generator=g)
    return x, torch.remainder(turn, 2 * math.pi)


@register.dataset
def mea3_winds():
    """Where the wind blows from next hour, between 0 and a full turn."""
    return Splits(winds(1500, 90), winds(300, 91), winds(1000, 92))


@register.model
class mea3_compass(nn.Module):
    """A point on the circle."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 48), nn.Tanh(), nn.Linear(48, 2))

    def forward(self, x):
        return F.normalize(self.net(x), dim=1)


@register.loss
def mea3_one_minus_cosine(out, y):
    return (1 - out[:, 0] * y.cos() - out[:, 1] * y.sin()).mean()
