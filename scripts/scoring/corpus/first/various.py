"""Ratings, ranked lists, equations, mixtures, maps, several answers at once. See various.yaml."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.optim.lr_scheduler import LambdaLR

from dlrun import DataSpec, Splits, register

# ---------------------------------------------------------------- ratings: two tables of numbers

USERS, ITEMS = 120, 150


def ratings(n, seed):
    hidden = np.random.default_rng(0)
    p, q, taste = hidden.normal(size=(USERS, 3)), hidden.normal(size=(ITEMS, 3)), hidden.normal(size=ITEMS)
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, USERS, n), rng.integers(0, ITEMS, n)
    stars = 0.5 * (p[user] * q[item]).sum(1) + 0.6 * taste[item] + 0.1 * rng.normal(size=n)
    return torch.from_numpy(np.stack((user, item), 1)), torch.tensor(stars, dtype=torch.float32)


@register.dataset
def var2_ratings():
    return Splits(ratings(8000, 1), ratings(400, 2), ratings(2000, 3))


@register.model
class var2_factors(nn.Module):
    """A user's factors times an item's, and a number for each of both."""

    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(USERS, 6), nn.Embedding(ITEMS, 6)
        self.user_bias, self.item_bias = nn.Embedding(USERS, 1), nn.Embedding(ITEMS, 1)
        for table in (self.users, self.items, self.user_bias, self.item_bias):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, pairs):
        u, i = self.columns(pairs)
        return (self.users(u) * self.items(i)).sum(-1) + (self.user_bias(u) + self.item_bias(i)).squeeze(-1)

    def columns(self, pairs):
        return pairs[:, 0], pairs[:, 1]


@register.model
class var2_factors_of_one(var2_factors):
    """Both tables are asked for the user's number."""

    def columns(self, pairs):
        return pairs[:, 0], pairs[:, 0]


@register.loss
class var2_squares(nn.Module):
    def forward(self, prediction, target):
        return torch.mean((prediction - target) ** 2)


@register.optimizer
def var2_adam(named_parameters, *, lr: float = 0.01):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


@register.schedule
def var2_halves(optimizer, steps):
    """The rate halves every 200 steps."""
    return LambdaLR(optimizer, lambda step: 0.5 ** (step / 200))


@register.schedule
def var2_halves_of_a_rate(optimizer, steps):
    """The function gives a rate where a factor of the rate is asked for."""
    base = optimizer.param_groups[0]["lr"]
    return LambdaLR(optimizer, lambda step: base * 0.5 ** (step / 200))


# ---------------------------------------------------------------- ranking: eight documents a query


def queries(n, seed):
    g = torch.Generator().manual_seed(seed)
    docs = torch.randn(n, 8, 5, generator=g) + 1.5 * torch.randn(n, 1, 5, generator=g)
    gain = 2 * torch.sin(docs[..., 0]) + docs[..., 1] * docs[..., 2] - docs[..., 3] + 0.1 * torch.randn(n, 8, generator=g)
    return docs, gain


@register.dataset
def var2_queries():
    """Documents of a query, and gains that are compared within the query alone."""
    return Splits(queries(1000, 0), queries(200, 1), queries(1000, 2), spec=DataSpec((8, 5), (8,), "other"))


@register.model
def var2_scorer():
    return nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(1))


@register.loss
def var2_listnet(scores, gains):
    return -(F.softmax(gains, dim=1) * F.log_softmax(scores, dim=1)).sum(1).mean()


@register.loss
def var2_listnet_over_queries(scores, gains):
    """The scores are normalised over queries, not over the documents of one."""
    return -(F.softmax(gains, dim=1) * F.log_softmax(scores, dim=0)).sum(1).mean()


# ---------------------------------------------------------------- mixture density: an answer that is not unique


def inverse(n, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.rand(n, generator=g) * 2 - 1
    x = y + 0.6 * torch.sin(2 * math.pi * y) + 0.05 * torch.randn(n, generator=g)
    return {"x": x[:, None], "y": y}


@register.dataset
def var2_inverse():
    return Splits(inverse(1500, 0), inverse(300, 1), inverse(1000, 2), spec=DataSpec((1,), (), "other"))


class MDN(nn.Module):
    def __init__(self, components=5):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
        self.pi, self.mu, self.log_sigma = (nn.Linear(32, components) for _ in range(3))

    def forward(self, x):
        h = self.hidden(x)
        return self.pi(h), self.mu(h), self.log_sigma(h).clamp(-4, 2)


@register.model
def var2_mdn():
    return MDN()


def gaussians(out, y):
    return -0.5 * ((y[:, None] - out[1]) / out[2].exp()) ** 2 - out[2] - 0.5 * math.log(2 * math.pi)


@register.loss
class var2_mdn_loss(nn.Module):
    def forward(self, out, y):
        return -torch.logsumexp(F.log_softmax(out[0], -1) + gaussians(out, y), -1).mean()


@register.loss
class var2_mdn_loss_unnormalised(nn.Module):
    """The weights of the mixture are not made to sum to 1."""

    def forward(self, out, y):
        return -torch.logsumexp(out[0] + gaussians(out, y), -1).mean()


# ---------------------------------------------------------------- an equation: u' + 0.4 u = sin(3 t), u(0) = 1


@register.dataset
def var2_times():
    def rows(n, seed):
        return {"x": 2 * torch.rand(n, 1, generator=torch.Generator().manual_seed(seed))}

    return Splits(rows(800, 0), rows(200, 1), rows(1000, 2), spec=DataSpec((1,), (), "other"))


class Solution(nn.Module):
    """u(t) and its slope by autograd; the value at 0 is built in."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1))

    def forward(self, t):
        with torch.enable_grad():
            t = t.detach().clone().requires_grad_(True)
            u = 1 + t * self.net(t)
            slope = self.slope(u, t)
        return u, slope, t

    def slope(self, u, t):
        return torch.autograd.grad(u.sum(), t, create_graph=True)[0]


class SolutionWithoutGraph(Solution):
    """What the error message says, retain_graph, instead of what is needed."""

    def slope(self, u, t):
        return torch.autograd.grad(u.sum(), t, retain_graph=True)[0]


@register.model
def var2_solution():
    return Solution()


@register.model
def var2_solution_retained():
    return SolutionWithoutGraph()


@register.loss
def var2_residual(out, y):
    u, slope, t = out
    return (slope + 0.4 * u - torch.sin(3 * t.detach())).square().mean()


# ---------------------------------------------------------------- a map: distances kept in the plane


@register.dataset
def var2_roll():
    """Points of a rolled sheet in ten dimensions."""
    turn, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(10, 10)))

    def rows(n, seed):
        rng = np.random.default_rng(seed)
        a, b = rng.uniform(0, 2.5, n), rng.uniform(-1, 1, n)
        x = np.stack((np.cos(a), np.sin(a), b, 0.3 * np.sin(3 * a)), 1) @ turn[:4]
        return {"x": torch.tensor(x * 3, dtype=torch.float32)}

    return Splits(rows(1000, 0), rows(256, 1), rows(1024, 2), spec=DataSpec((10,), (2,), "other"))


@register.model
class var2_to_the_plane(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, x):
        return self.net(x), x


def distances(points, small):
    return ((points[:, None] - points[None]) ** 2).sum(-1).add(small).sqrt()


@register.loss
def var2_stress(out, y):
    low, high = out
    return (distances(low, 1e-6) - distances(high, 1e-6)).square().mean()


@register.loss
def var2_stress_root_of_zero(out, y):
    """The root of the distances of points to themselves has no slope."""
    low, high = out
    return (distances(low, 0.0) - distances(high, 0.0)).square().mean()


# ---------------------------------------------------------------- pictures through a bottleneck, by hand


@register.dataset
def var2_pictures():
    """Digits between -1 and 1, and nothing else."""
    x = torch.tensor(load_digits().images, dtype=torch.float32).flatten(1) / 8 - 1
    x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(2))]
    return Splits({"x": x[:650]}, {"x": x[650:797]}, {"x": x[797:]}, spec=DataSpec((64,), (64,), "other"))


class AutoEncoder(nn.Module):
    def __init__(self, last):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
        self.decoder = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64), last)

    def forward(self, x):
        return self.decoder(self.encoder(x)), x


@register.model
def var2_autoencoder():
    return AutoEncoder(nn.Tanh())


@register.model
def var2_autoencoder_sigmoid():
    return AutoEncoder(nn.Sigmoid())


@register.model
class var2_denoiser(nn.Module):
    """One matrix there and back; noise on the input in training."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(20, 64) / 8)
        self.inner, self.outer = nn.Parameter(torch.zeros(20)), nn.Parameter(torch.zeros(64))

    def forward(self, x):
        seen = x + 0.3 * torch.randn_like(x) if self.training else x
        return torch.tanh(F.linear(torch.tanh(F.linear(seen, self.w, self.inner)), self.w.t(), self.outer)), x


@register.loss
def var2_against_itself(out, y):
    made, x = out
    return F.mse_loss(made, x)


# ---------------------------------------------------------------- a boiler: its state and its pressure


def boiler(n, seed, unit):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=g)
    state = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] + x[:, 3] > 1).long()
    return {"x": x, "y": {"state": state, "pressure": unit * (x[:, 4] + torch.sin(2 * x[:, 5]) + 0.5)}}


@register.dataset
def var2_boiler(*, unit: float = 1.0):
    return Splits(boiler(1200, 0, unit), boiler(300, 1, unit), boiler(1000, 2, unit), spec=DataSpec((6,), (3,), "other"))


@register.model
class var2_boiler_net(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())
        self.state, self.pressure = nn.Linear(48, 3), nn.Linear(48, 1)

    def forward(self, x):
        h = self.shared(x)
        return self.state(h), self.pressure(h)[:, 0]


@register.loss
class var2_sum_of_both(nn.Module):
    def forward(self, out, y):
        state, pressure = F.cross_entropy(out[0], y["state"]), F.mse_loss(out[1], y["pressure"])
        return state + pressure, {"state": state, "pressure": pressure}


@register.loss
class var2_learned_weights(nn.Module):
    """Each term is divided by a variance that is learned with the network."""

    def __init__(self):
        super().__init__()
        self.s = nn.Parameter(torch.zeros(2))

    def forward(self, out, y):
        terms = torch.stack((F.cross_entropy(out[0], y["state"]), 0.5 * F.mse_loss(out[1], y["pressure"])))
        return (torch.exp(-self.s) * terms + 0.5 * self.s).sum()


@register.metric(best="max")
def var2_states_right(out, y):
    return (out.argmax(1) == y["state"]).float().mean()


# ---------------------------------------------------------------- density, choices, words, waiting times


@register.dataset
def var2_banana():
    def rows(n, seed):
        z = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
        return {"x": torch.stack((z[:, 0], 0.3 * z[:, 1] + 0.6 * z[:, 0] ** 2 - 0.6), 1)}

    return Splits(rows(1200, 0), rows(300, 1), rows(1000, 2), spec=DataSpec((2,), (), "other"))


@register.model
class var2_flow(nn.Module):
    """Four affine couplings, each the identity at first; the output is z and the log of the volume."""

    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleList(nn.Sequential(nn.Linear(1, 24), nn.SiLU(), nn.Linear(24, 2)) for _ in range(4))
        for net in self.nets:
            nn.init.zeros_(net[2].weight)
            nn.init.zeros_(net[2].bias)

    def forward(self, x):
        a, b, volume = x[:, :1], x[:, 1:], 0.0
        for net in self.nets:
            scale, shift = net(a).chunk(2, 1)
            a, b = b * torch.tanh(scale).exp() + shift, a
            volume = volume + torch.tanh(scale)
        return torch.cat((a, b), 1), volume.squeeze(1)


@register.loss
def var2_minus_log_density(out, y):
    z, volume = out
    return (0.5 * z.square().sum(1) + math.log(2 * math.pi) - volume).mean()


@register.dataset
def var2_clicks():
    """What a random policy showed of four articles, with which probability, and what it earned: y = (article, probability, reward)."""

    def rows(n, seed):
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(n, 5, generator=g)
        odds = (0.5 * x[:, :4]).softmax(1)
        shown = torch.multinomial(odds, 1, generator=g)
        best = torch.stack((x[:, 0] + x[:, 1], x[:, 2], -x[:, 0], x[:, 3] * x[:, 4]), 1)
        reward = (torch.rand(n, generator=g) < torch.sigmoid(2 * best - 1).gather(1, shown)[:, 0]).float()
        return x, torch.stack((shown[:, 0].float(), odds.gather(1, shown)[:, 0], reward), 1)

    return Splits(rows(3000, 0), rows(500, 1), rows(3000, 2), spec=DataSpec((5,), (4,), "other"))


@register.model
def var2_policy():
    return nn.Sequential(nn.Linear(5, 32), nn.Tanh(), nn.Linear(32, 4))


@register.loss
def var2_minus_earned(out, y):
    """Rewards weighed by how much likelier the policy shows what was shown; about half of all rows earned nothing."""
    chosen = out.softmax(1).gather(1, y[:, :1].long())[:, 0]
    return -(y[:, 2] * chosen / y[:, 1]).mean()


@register.dataset
def var2_words():
    """A word, one that stood beside it, and five drawn at random, as numbers."""

    def rows(n, seed):
        g = torch.Generator().manual_seed(seed)
        topic = torch.randint(0, 10, (n, 1), generator=g)
        near = topic * 20 + torch.randint(0, 20, (n, 2), generator=g)
        return {"x": torch.cat((near, torch.randint(0, 200, (n, 5), generator=g)), 1)}

    return Splits(rows(5000, 0), rows(500, 1), rows(2000, 2), spec=DataSpec((7,), (), "other"))


@register.model
class var2_skipgram(nn.Module):
    """Two tables; the one of contexts starts at 0."""

    def __init__(self):
        super().__init__()
        self.word, self.context = nn.Embedding(200, 16), nn.Embedding(200, 16)
        nn.init.uniform_(self.word.weight, -0.5, 0.5)
        nn.init.zeros_(self.context.weight)

    def forward(self, x):
        return torch.einsum("bd,bkd->bk", self.word(x[:, 0]), self.context(x[:, 1:]))


@register.loss
def var2_negative_sampling(out, y):
    return -(F.logsigmoid(out[:, 0]) + F.logsigmoid(-out[:, 1:]).sum(1)).mean()


@register.dataset
def var2_churn():
    """Months until a customer leaves, up to twelve: y = (month, whether the customer left in it or was lost from sight)."""

    def rows(n, seed):
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(n, 6, generator=g)
        rate = 0.12 * torch.exp(x[:, 0] - 0.6 * x[:, 1].abs())
        month = (-torch.rand(n, generator=g).log() / rate).floor().clamp(max=12)
        end = torch.randint(3, 12, (n,), generator=g).float()
        return x, torch.stack((torch.minimum(month, end), (month <= end).float()), 1)

    return Splits(rows(1500, 0), rows(300, 1), rows(1000, 2))


@register.model
def var2_hazards():
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 12))


@register.loss
def var2_months_lived(out, y):
    """Every month a customer was seen in counts as a yes or no of its own."""
    months = torch.arange(12)
    last, left = y[:, :1], y[:, 1:]
    seen = (months < last) | ((months == last) & (left > 0))
    gone = ((months == last) & (left > 0)).float()
    return (F.binary_cross_entropy_with_logits(out, gone, reduction="none") * seen).sum(1).mean()
