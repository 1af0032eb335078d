"""What is neither classes nor numbers: preferences, imitation, mixtures, energies, choices, two answers. See others.yaml."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset

from dlrun import DataSpec, Splits, register


@register.optimizer
def oth3_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


# ---------------------------------------------------------------- preferences: who listened to what, and to what not

LISTENERS, SONGS = 150, 80


def plays(n, seed, one=False):
    """A listener, a song they played, one drawn at random."""
    world = np.random.default_rng(5)
    taste = world.normal(size=(LISTENERS, 3)) @ world.normal(size=(3, SONGS)) + world.normal(0, 0.7, SONGS)
    rng = np.random.default_rng(seed)
    who = rng.integers(0, LISTENERS, n)
    played = (taste[who] + rng.gumbel(size=(n, SONGS))).argmax(axis=1)
    other = np.full(n, rng.integers(SONGS)) if one else rng.integers(SONGS, size=n)
    return {"x": torch.from_numpy(np.stack((who, played, other), axis=1))}


@register.dataset
def oth3_plays():
    return Splits(plays(8000, 1), plays(1000, 2), plays(4000, 3), spec=DataSpec((3,), (), "other"))


@register.dataset
def oth3_plays_against_one():
    """`size=` is left out: one number is drawn and stands in all rows."""
    return Splits(plays(8000, 1, True), plays(1000, 2, True), plays(4000, 3, True), spec=DataSpec((3,), (), "other"))


@register.model
class oth3_likes(nn.Module):
    def __init__(self, *, dim: int = 8):
        super().__init__()
        self.listener, self.song, self.fame = nn.Embedding(LISTENERS, dim), nn.Embedding(SONGS, dim), nn.Embedding(SONGS, 1)
        for table in (self.listener, self.song, self.fame):
            nn.init.normal_(table.weight, std=0.1)

    def score(self, who, what):
        return (self.listener(who) * self.song(what)).sum(1) + self.fame(what)[:, 0]

    def forward(self, x):
        who, played, other = x.unbind(1)
        return self.score(who, played), self.score(who, other)


@register.loss
def oth3_bpr(out, y):
    played, other = out
    return -F.logsigmoid(played - other).mean()


# ---------------------------------------------------------------- imitation: an expert steers a mass to a goal


def episodes(count, seed):
    """States [count, 25, 6] and actions [count, 25, 2] of a controller with limited force."""
    g = torch.Generator().manual_seed(seed)
    place, speed = torch.randn(count, 2, generator=g), 0.5 * torch.randn(count, 2, generator=g)
    goal = torch.randn(count, 2, generator=g)
    states, actions = [], []
    for _ in range(25):
        force = torch.tanh(2 * (goal - place) - 1.5 * speed) + 0.05 * torch.randn(count, 2, generator=g)
        states.append(torch.cat((place, speed, goal), 1)), actions.append(force)
        speed = speed + 0.2 * force
        place = place + 0.2 * speed + 0.02 * torch.randn(count, 2, generator=g)
    return torch.stack(states, 1), torch.stack(actions, 1)


def demonstrations(count, seed, by_time=False):
    states, actions = episodes(count, seed)
    if by_time:
        states = states.transpose(0, 1)
    return states.reshape(-1, 6), actions.reshape(-1, 2)


@register.dataset
def oth3_demonstrations():
    return Splits(demonstrations(80, 1), demonstrations(16, 2), demonstrations(50, 3), spec=DataSpec((6,), (2,), "other"))


@register.dataset
def oth3_demonstrations_by_time():
    """States are laid out step by step, actions episode by episode."""
    return Splits(demonstrations(80, 1, True), demonstrations(16, 2, True), demonstrations(50, 3, True), spec=DataSpec((6,), (2,), "other"))


@register.model
class oth3_policy(nn.Module):
    """A Gaussian over forces, its spread a parameter."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
        self.log_std = nn.Parameter(torch.full((2,), -0.5))

    def forward(self, state):
        mean = self.mean(state)
        return mean, self.log_std.expand_as(mean)


@register.loss
def oth3_cloning(out, action):
    mean, log_std = out
    return -torch.distributions.Normal(mean, log_std.exp()).log_prob(action).sum(-1).mean()


# ---------------------------------------------------------------- two answers: what shook the ground, and how strongly


class Tremors(Dataset):
    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.kind = rng.integers(0, 3, n)
        self.size = rng.uniform(-1, 1, n).astype("float32")
        t, at = np.arange(48)[None], rng.uniform(6, 14, (n, 1))
        after = np.clip(t - at, 0, None)
        decay, pitch = np.array([4.0, 10.0, 10.0])[self.kind][:, None], np.array([1.6, 1.6, 0.7])[self.kind][:, None]
        shape = (t > at) * np.exp(-after / decay)
        waves = [np.sin(pitch * after), np.cos(pitch * after + 0.5)]
        self.trace = np.exp(0.7 * self.size)[:, None, None] * np.stack([shape * wave for wave in waves], axis=2)
        self.trace = (3 * self.trace + 0.15 * rng.normal(size=(n, 48, 2))).astype("float32")

    def __len__(self):
        return len(self.kind)

    def __getitem__(self, i):
        return {"x": self.trace[i], "y": {"kind": int(self.kind[i]), "size": self.size[i]}}


@register.dataset
def oth3_tremors():
    return Splits(Tremors(1500, 1), Tremors(300, 2), Tremors(1000, 3), spec=DataSpec((48, 2), (), "other"))


@register.model
class oth3_station(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv1d(2, 16, 5, stride=2), nn.ReLU(), nn.Conv1d(16, 24, 5, stride=2), nn.ReLU(), nn.Flatten())
        self.kind = nn.Linear(216, 3)
        self.size = nn.Sequential(nn.Linear(216, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x):
        h = self.trunk(x.transpose(1, 2))
        return self.size(h).squeeze(1), self.kind(h)


@register.loss
def oth3_both(out, y):
    size, kind = out
    return F.cross_entropy(kind, y["kind"]) + 2 * F.mse_loss(size, y["size"])


@register.loss
def oth3_both_in_the_log(out, y):
    """The term of the size is added as it is printed, as a number."""
    size, kind = out
    return F.cross_entropy(kind, y["kind"]) + 2 * F.mse_loss(size, y["size"]).item()


@register.metric(best="min")
def oth3_size_missed(out, y):
    return (out - y["size"]).abs().mean()


# ---------------------------------------------------------------- a mixture of Gaussians, by gradient


@register.dataset
def oth3_clusters():
    """Six clusters in the plane; there is no target."""

    def rows(n, seed):
        rng = np.random.default_rng(seed)
        which = rng.integers(0, 6, n)
        centre = np.stack((np.cos(which * np.pi / 3), np.sin(which * np.pi / 3)), 1) * 2
        return {"x": torch.from_numpy(centre + rng.normal(0, 0.25, (n, 2))).float()}

    return Splits(rows(1200, 1), rows(300, 2), rows(1000, 3), spec=DataSpec((2,), (), "other"))


class Mixture(nn.Module):
    """Log densities of the rows under each component, weighted; no layers."""

    def __init__(self, means):
        super().__init__()
        self.means = nn.Parameter(means)
        self.log_std = nn.Parameter(torch.zeros(len(means), 2))
        self.weight = nn.Parameter(torch.zeros(len(means)))

    def forward(self, x):
        z = (x[:, None] - self.means) / self.log_std.exp()
        return self.weight.log_softmax(0) - 0.5 * z.square().sum(2) - self.log_std.sum(1) - math.log(2 * math.pi)


@register.model
def oth3_mixture():
    return Mixture(torch.randn(10, 2) * 1.5)


@register.model
def oth3_mixture_from_zeros():
    """All components start at the origin and get the same gradient."""
    return Mixture(torch.zeros(10, 2))


@register.loss
def oth3_minus_log_likelihood(out, y):
    return -torch.logsumexp(out, dim=1).mean()


# ---------------------------------------------------------------- an energy, by telling data from noise


@register.dataset
def oth3_ring_and_noise():
    """Points of a spiral arm beside points of a square, one of each a row."""

    def rows(n, seed):
        g = torch.Generator().manual_seed(seed)
        turn = 3 * torch.rand(n, generator=g)
        real = torch.stack((turn.cos(), turn.sin()), 1) * (0.6 + 0.5 * turn)[:, None] + 0.1 * torch.randn(n, 2, generator=g)
        return {"x": {"real": real, "noise": torch.rand(n, 2, generator=g) * 5 - 2.5}}

    return Splits(rows(1500, 1), rows(300, 2), rows(1500, 3), spec=DataSpec((2,), (), "other"))


class Energy(nn.Module):
    """Log odds of data against noise: minus the energy, a learned constant, less the log density of the noise."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
        self.constant = nn.Parameter(torch.zeros(()))

    def odds(self, x):
        return -self.net(x).squeeze(1) - self.constant + math.log(25.0)

    def forward(self, x):
        return self.odds(x["real"]), self.odds(x["noise"])


@register.model
def oth3_energy():
    return Energy()


@register.loss
def oth3_contrast(out, y):
    real, noise = out
    return F.softplus(-real).mean() + F.softplus(noise).mean()


@register.loss
def oth3_contrast_pasted(out, y):
    """The sign of the second term was not turned."""
    real, noise = out
    return F.softplus(-real).mean() + F.softplus(-noise).mean()


# ---------------------------------------------------------------- everyday: curves through three numbers


class Curves(Dataset):
    """Forty readings of a curve, its own target."""

    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        t = np.linspace(0, 1, 40)[None]
        level, slope, height, at = (
            rng.normal(0, 1, (n, 1)),
            rng.normal(0, 1, (n, 1)),
            rng.normal(0, 1, (n, 1)),
            rng.uniform(0.2, 0.8, (n, 1)),
        )
        curve = 0.5 * level + slope * (t - 0.5) + 1.5 * height * np.exp(-((t - at) ** 2) / 0.02) + rng.normal(0, 0.05, (n, 40))
        self.data = torch.tensor(curve, dtype=torch.float32)

    def __len__(self):
        return len(self.data)

    def __getitem__(self, idx):
        return self.data[idx], self.data[idx]


@register.dataset
def oth3_curves():
    return Splits(Curves(2000, 1), Curves(300, 2), Curves(1000, 3), spec=DataSpec((40,), (40,), "other"))


@register.model
class oth3_autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 6))
        self.decoder = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 40))

    def forward(self, x):
        return self.decoder(self.encoder(x))


@register.loss
class oth3_rebuilt(nn.Module):
    def __init__(self):
        super().__init__()
        self.mse = nn.MSELoss()

    def forward(self, out, y):
        return self.mse(out, y)


# ---------------------------------------------------------------- odd: choices among few or many, the slope of a landscape


class Journeys(Dataset):
    """Two to seven ways to travel, with price, time, changes and comfort; which one was taken."""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.ways = torch.randn(n, 7, 4, generator=g)
        self.there = torch.arange(7) < torch.randint(2, 8, (n, 1), generator=g)
        price, time, changes, comfort = self.ways.unbind(2)
        worth = -1.5 * price - 1.2 * torch.relu(time) - 0.6 * changes * (comfort < 0) + 0.5 * comfort
        luck = -torch.log(-torch.log(torch.rand(n, 7, generator=g)))
        self.taken = (2 * worth + luck).masked_fill(~self.there, -math.inf).argmax(1)
        self.ways = self.ways * self.there[..., None]

    def __len__(self):
        return len(self.taken)

    def __getitem__(self, i):
        return {"ways": self.ways[i], "there": self.there[i]}, self.taken[i]


@register.dataset
def oth3_journeys():
    return Splits(Journeys(2000, 1), Journeys(300, 2), Journeys(1000, 3), spec=DataSpec((7, 4), (7,), "other"))


@register.model
class oth3_worth(nn.Module):
    """One number for each way there is, the same network for all; ways that are not there have none."""

    def __init__(self):
        super().__init__()
        self.worth = nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 1, bias=False))

    def forward(self, x):
        return self.worth(x["ways"]).squeeze(-1).masked_fill(~x["there"], -1e9)


@register.loss
def oth3_choice(out, taken):
    return (torch.logsumexp(out, 1) - out.gather(1, taken[:, None])[:, 0]).mean()


@register.metric(best="max")
def oth3_foreseen(out, taken):
    return (out.argmax(1) == taken).float().mean()


@register.model
class oth3_landscape(nn.Module):
    """Noise is added to the points, and the slope of a learned landscape is to lead back; the output is (slope, noise)."""

    def __init__(self, *, sigma: float = 0.3):
        super().__init__()
        self.sigma = sigma
        self.height = nn.Sequential(nn.Linear(2, 64), nn.Softplus(), nn.Linear(64, 64), nn.Softplus(), nn.Linear(64, 1, bias=False))

    def forward(self, x):
        noise = torch.randn_like(x)
        with torch.enable_grad():
            seen = (x + self.sigma * noise).detach().requires_grad_(True)
            slope = torch.autograd.grad(self.height(seen).sum(), seen, create_graph=True)[0]
        return slope, noise


@register.loss
def oth3_leads_back(out, y):
    slope, noise = out
    return (slope + noise).square().sum(1).mean()
