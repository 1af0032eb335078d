"""Numbers as targets: measurements of the body, a robot's arm, tides, bicycles, doses. See numbers.yaml."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_diabetes
from torch.utils.data import Dataset

from dlrun import Splits, register

# ---------------------------------------------------------------- scikit-learn's diabetes


def diabetes():
    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(11).permutation(len(x))
    x = torch.tensor(x[order] / x.std(0), dtype=torch.float32)
    return x, torch.tensor(y[order], dtype=torch.float32)


def parts(x, y):
    return Splits((x[:240], y[:240]), (x[240:300], y[240:300]), (x[300:], y[300:]))


@register.dataset
def num2_diabetes():
    x, y = diabetes()
    return parts(x, (y - y[:240].mean()) / y[:240].std())


@register.dataset
def num2_diabetes_raw():
    """Progression as it is in the file, 25 to 346."""
    return parts(*diabetes())


@register.model
def num2_diabetes_mlp():
    return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))


@register.model
def num2_five_heads():
    """An ensemble of five small networks, side by side."""
    return Heads()


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.members = nn.ModuleList(nn.Sequential(nn.Linear(10, 12), nn.Tanh(), nn.Linear(12, 1)) for _ in range(5))

    def forward(self, x):
        return torch.cat([member(x) for member in self.members], dim=1)


@register.loss
def num2_each_head(out, y):
    return (out - y[:, None]).pow(2).mean()


@register.metric(best="min")
def num2_ensemble_error(out, y):
    return (out.mean(1) - y).pow(2).mean()


@register.metric(best="max", whole=True)
def num2_r2(out, y):
    return 1 - (out - y).pow(2).sum() / (y - y.mean()).pow(2).sum()


# ---------------------------------------------------------------- the arm: joint angles to the place of the hand

LENGTHS = np.array([1.0, 0.8, 0.5])


def angles(n, seed):
    rng = np.random.default_rng(seed)
    theta = rng.uniform(-math.pi / 2, math.pi / 2, (n, 3))
    sums = theta.cumsum(1)
    return theta, (LENGTHS * np.cos(sums)).sum(1), (LENGTHS * np.sin(sums)).sum(1)


class ArmDataset(Dataset):
    """Items are dicts, as a student would have it."""

    def __init__(self, n, seed, scrambled=False):
        theta, px, py = angles(n, seed)
        self.theta = theta.astype("float32")
        both = np.array([px, py])
        self.hand = (both.reshape(-1, 2) if scrambled else both.T).astype("float32")

    def __len__(self):
        return len(self.theta)

    def __getitem__(self, i):
        return {"x": self.theta[i], "y": self.hand[i]}


@register.dataset
def num2_arm():
    return Splits(ArmDataset(1200, 0), ArmDataset(300, 1), ArmDataset(1000, 2))


@register.dataset
def num2_arm_reshaped():
    """[2, N] made [N, 2] by reshape."""
    return Splits(ArmDataset(1200, 0, True), ArmDataset(300, 1, True), ArmDataset(1000, 2, True))


class ArmNet(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.fc1 = nn.Linear(3, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 2)

    def forward(self, x):
        x = F.silu(self.fc1(x))
        x = F.silu(self.fc2(x))
        return self.out(x)


@register.model
def num2_arm_net(*, hidden: int = 64):
    return ArmNet(hidden)


@register.loss
class num2_mse(nn.Module):
    def __init__(self):
        super().__init__()
        self.criterion = nn.MSELoss()

    def forward(self, out, y):
        return self.criterion(out, y)


@register.loss
def num2_square_of_mean(out, y):
    """The square of the mean error, one bracket away from the mean squared error."""
    return (out - y).mean() ** 2


@register.loss
def num2_huber_per_row(out, y):
    return F.smooth_l1_loss(out, y, reduction="none").sum(-1).mean()


@register.metric(best="min")
def num2_error(out, y):
    return (out - y).pow(2).mean()


@register.optimizer
def num2_sgd(named_parameters, *, lr: float = 0.05, decay: float = 0.0):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, momentum=0.9, weight_decay=decay)


@register.optimizer
def num2_adam(named_parameters, *, lr: float = 2e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


class Forgetful(torch.optim.Adam):
    """Adam whose moments are thrown away before each step, as one that is made anew in the loop."""

    def step(self, closure=None):
        self.state.clear()
        return super().step(closure)


@register.optimizer
def num2_adam_made_each_step(named_parameters, *, lr: float = 2e-3):
    return Forgetful([p for _, p in named_parameters], lr=lr)


# ---------------------------------------------------------------- a tide gauge: 32 readings in cm, the level six readings on


def tide(n, seed):
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 5000, (n, 1))
    t = start + np.arange(38) * 0.5
    level = 200 + 110 * np.sin(2 * np.pi * t / 12.42 + rng.normal(0, 0.3, (n, 1))) + 50 * np.sin(2 * np.pi * t / 12.0)
    level = level + 20 * np.sin(2 * np.pi * t / 25.8) + rng.normal(0, 2, t.shape)
    return level.round().clip(0, 400), start


def windows(n, seed, kind):
    level, _ = tide(n, seed)
    x = level[:, :32].astype(kind).astype(np.float32)
    return torch.from_numpy((x - 200) / 100)[:, None], torch.tensor((level[:, 37] - 200) / 100, dtype=torch.float32)


@register.dataset
def num2_tides(*, kind: str = "int16"):
    return Splits(windows(1200, 0, kind), windows(300, 1, kind), windows(1000, 2, kind))


@register.model
def num2_tide_conv():
    return nn.Sequential(
        nn.Conv1d(1, 16, 5, stride=2), nn.ReLU(), nn.Conv1d(16, 16, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(80, 1), nn.Flatten(0)
    )


@register.model
class num2_persists(nn.Module):
    """The last reading plus a correction whose head starts at 0."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(1, 24, batch_first=True)
        self.head = nn.Linear(24, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        states, _ = self.gru(x.transpose(1, 2))
        return x[:, 0, -1] + self.head(states[:, -1]).squeeze(-1)


# ---------------------------------------------------------------- a noisy sensor: mean and log variance


def sensor(n, seed, mean, spread):
    g = torch.Generator().manual_seed(seed)
    raw = torch.rand(n, 4, generator=g) * torch.tensor([30.0, 5.0, 800.0, 60.0]) + torch.tensor([0.0, 10.0, 300.0, 20.0])
    z = (raw - torch.tensor([15.0, 12.5, 700.0, 50.0])) / torch.tensor([8.7, 1.44, 231.0, 17.3])
    y = torch.sin(1.5 * z[:, 0]) + 0.5 * z[:, 1] * z[:, 2]
    y = y + (0.1 + 0.4 * torch.sigmoid(3 * z[:, 3])) * torch.randn(n, generator=g)
    return (raw - mean) / spread, y


SENSOR = (torch.tensor([15.0, 12.5, 700.0, 50.0]), torch.tensor([8.7, 1.44, 231.0, 17.3]))
AS_IS = (torch.zeros(4), torch.ones(4))


@register.dataset
def num2_sensor():
    return Splits(sensor(1500, 1, *SENSOR), sensor(300, 2, *SENSOR), sensor(1000, 3, *SENSOR))


@register.dataset
def num2_sensor_scaled_in_train():
    """The scaler was applied to the training rows alone."""
    return Splits(sensor(1500, 1, *SENSOR), sensor(300, 2, *AS_IS), sensor(1000, 3, *AS_IS))


class MeanAndSpread(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        self.mean = nn.Linear(width, 1)
        self.log_var = nn.Linear(width, 1)

    def features(self, x):
        return self.trunk(x)

    def forward(self, x):
        h = self.features(x)
        return self.mean(h).squeeze(1), self.log_var(h).squeeze(1)


class NoGradTrunk(MeanAndSpread):
    """Features are taken under no_grad, as from a network that somebody else trained."""

    def features(self, x):
        with torch.no_grad():
            return self.trunk(x)


@register.model
def num2_mean_and_spread():
    return MeanAndSpread()


@register.model
def num2_mean_and_spread_no_grad():
    return NoGradTrunk()


@register.loss
def num2_gauss_nll(out, y):
    mu, s = out
    return 0.5 * (s + (y - mu) ** 2 * torch.exp(-s)).mean()


@register.loss
def num2_gauss_nll_turned(out, y):
    """The sign of the log variance is wrong in its own term."""
    mu, s = out
    return 0.5 * (-s + (y - mu) ** 2 * torch.exp(-s)).mean()


# ---------------------------------------------------------------- rented bicycles: hour, weekday, weather, counts


class Rides(Dataset):
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.when = torch.stack((torch.randint(0, 24, (n,), generator=g), torch.randint(0, 7, (n,), generator=g)), 1)
        self.weather = torch.randn(n, 2, generator=g)
        peak = torch.exp(-((self.when[:, 0] - 8) ** 2) / 8) + torch.exp(-((self.when[:, 0] - 17) ** 2) / 8)
        log_rate = -1.5 + 2.2 * peak * (self.when[:, 1] < 5) + 0.6 * self.weather[:, 0] - 0.4 * self.weather[:, 1].clamp(min=0)
        self.count = torch.poisson(log_rate.exp(), generator=g)

    def __len__(self):
        return len(self.count)

    def __getitem__(self, i):
        return {"when": self.when[i], "weather": self.weather[i]}, self.count[i]


@register.dataset
def num2_rides():
    return Splits(Rides(2000, 5), Rides(300, 6), Rides(1500, 7))


@register.model
class num2_rate_net(nn.Module):
    """The rate itself, above 0 by softplus."""

    def __init__(self):
        super().__init__()
        self.hour = nn.Embedding(24, 6)
        self.day = nn.Embedding(7, 3)
        self.mlp = nn.Sequential(nn.Linear(11, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        h = torch.cat([self.hour(x["when"][:, 0]), self.day(x["when"][:, 1]), x["weather"]], 1)
        return F.softplus(self.mlp(h)).squeeze(1)


@register.loss
class num2_poisson(nn.Module):
    def __init__(self, *, log_input: bool = False):
        super().__init__()
        self.nll = nn.PoissonNLLLoss(log_input=log_input)

    def forward(self, out, y):
        return self.nll(out, y)


@register.metric(best="min")
def num2_deviance(out, y):
    return (out - y * torch.log(out.clamp(min=1e-6))).mean()


# ---------------------------------------------------------------- doses, stars, shares, laboratories


@register.dataset
def num2_doses():
    """Nine doses of a drug and a control, each given to many animals: equal inputs, different answers."""

    def rows(n, seed):
        g = torch.Generator().manual_seed(seed)
        dose = torch.arange(n) % 10
        x = (dose.float() - 4.5) / 3
        return x[:, None], 2 / (1 + torch.exp(-2.5 * x)) - 1 + 0.35 * torch.randn(n, generator=g)

    return Splits(rows(400, 0), rows(200, 1), rows(1000, 2))


@register.model
def num2_hill():
    """Four parameters of a dose-response curve and nothing else."""
    return Hill()


class Hill(nn.Module):
    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([0.0, 0.5, 0.0, 0.5]))

    def forward(self, x):
        low, span, middle, slope = self.theta
        return (low + span * torch.sigmoid(slope.exp() * (x - middle))).squeeze(-1)


@register.dataset
def num2_stars():
    """Ratings of one to five stars from twelve words that are there or not."""

    def rows(n, seed):
        g = torch.Generator().manual_seed(seed)
        words = (torch.rand(n, 40, generator=g) < 0.12).float()
        taste = torch.randn(40, generator=torch.Generator().manual_seed(99))
        score = 3.4 + 1.1 * words @ taste / 1.6 + 0.4 * torch.randn(n, generator=g)
        return words, score.round().clamp(1, 5)

    return Splits(rows(1500, 0), rows(300, 1), rows(1000, 2))


@register.model
class num2_between_one_and_five(nn.Module):
    """Outputs lie between the worst and the best rating."""

    def __init__(self):
        super().__init__()
        self.bag = nn.Linear(40, 24)
        self.top = nn.Linear(24, 1)

    def forward(self, x):
        return 0.5 + 5 * torch.sigmoid(self.top(torch.relu(self.bag(x)))).squeeze(1)


@register.dataset
def num2_laboratory():
    """Eight blood values, of which a row has but some: y = (values, which are known), the others stand at 0."""

    def rows(n, seed):
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(n, 5, generator=g)
        mix = torch.randn(5, 8, generator=torch.Generator().manual_seed(42))
        values = torch.tanh(x @ mix) + 0.1 * torch.randn(n, 8, generator=g)
        known = torch.rand(n, 8, generator=g) < torch.tensor([0.9, 0.7, 0.5, 0.4, 0.3, 0.2, 0.2, 0.1])
        return x, torch.cat((values * known, known.float()), 1)

    return Splits(rows(1500, 0), rows(300, 1), rows(1000, 2))


@register.model
def num2_laboratory_net():
    return nn.Sequential(nn.Linear(5, 48), nn.ELU(), nn.Linear(48, 8))


@register.loss
def num2_known_only(out, y):
    values, known = y.chunk(2, 1)
    return ((out - values).abs() * known).sum() / known.sum().clamp(min=1)


@register.dataset
def num2_melting():
    """Thirty alloys in train, every step on all of them."""

    def rows(n, seed):
        g = torch.Generator().manual_seed(seed)
        share = torch.rand(n, 4, generator=g)
        share = share / share.sum(1, keepdim=True)
        return share, share @ torch.tensor([0.9, -0.3, 0.4, -1.2]) + 0.05 * torch.randn(n, generator=g)

    return Splits(rows(30, 0), rows(30, 1), rows(1000, 2))


@register.model
def num2_line():
    return nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))


@register.model
class num2_growth(nn.Module):
    """Rises with its first input whatever its weights are: they pass through softplus."""

    def __init__(self):
        super().__init__()
        self.raw = nn.ParameterList([nn.Parameter(torch.randn(10, 1) - 1), nn.Parameter(torch.randn(1, 10) - 1)])
        self.shift = nn.Parameter(torch.randn(10))
        self.base = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        h = torch.tanh(F.linear(x, F.softplus(self.raw[0]), self.shift))
        return (F.linear(h, F.softplus(self.raw[1])) + self.base - 3).squeeze(1)
