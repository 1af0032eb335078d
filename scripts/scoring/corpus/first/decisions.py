"""Yes or no: payments, heart beats, tags of questions, blood panels, patients, skin, known cases. See decisions.yaml."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, WeightedRandomSampler

from dlrun import DataSpec, Splits, register


def ranks_right(score, y):
    """Share of pairs of a yes and a no in which the yes has the higher score."""
    order = torch.argsort(torch.argsort(score)).double() + 1
    yes, n = (y > 0.5), float((y > 0.5).sum())
    return ((order[yes].sum() - n * (n + 1) / 2) / (n * (len(y) - n))).float()


@register.metric(best="max", whole=True)
def dec3_auc(out, y):
    return ranks_right(out.flatten(), y.flatten())


@register.metric(best="max", whole=True)
def dec3_balanced(out, y):
    """Mean of the shares of yes and of no that are found, the scores being log odds."""
    said, true = out.flatten() > 0, y.flatten() > 0.5
    return ((said & true).sum() / true.sum() + (~said & ~true).sum() / (~true).sum()) / 2


@register.optimizer
def dec3_adam(named_parameters, *, lr: float = 2e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


@register.optimizer
def dec3_adam_turned(named_parameters, *, lr: float = 2e-3):
    """The two rates of forgetting in the wrong order."""
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr, betas=(0.999, 0.9))


@register.optimizer
def dec3_sgd(named_parameters, *, lr: float = 0.1):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, momentum=0.9)


@register.loss
class dec3_bce(nn.Module):
    def __init__(self):
        super().__init__()
        self.criterion = nn.BCEWithLogitsLoss()

    def forward(self, logits, labels):
        return self.criterion(logits, labels)


# ---------------------------------------------------------------- payments: six in a hundred are fraud, drawn as often as the others


class Payments(Dataset):
    """Amount and gap as numbers, the shop's trade as a number of a list, the hour as a point on a circle."""

    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        amount, gap = rng.lognormal(3.5, 1.0, n), rng.exponential(2.0, n)
        self.trade, hour = rng.integers(0, 30, n), rng.uniform(0, 24, n)
        odds = 0.9 * (np.log(amount) - 3.5) - 1.2 * np.minimum(gap, 3) + 1.5 * (hour < 5) + 1.2 * np.isin(self.trade, (3, 8, 19, 22)) - 2.6
        self.fraud = (rng.uniform(size=n) < 1 / (1 + np.exp(-2 * odds))).astype("float32")
        day = 2 * np.pi * hour / 24
        self.numbers = np.stack((np.log(amount) - 3.5, gap / 2 - 1, np.sin(day), np.cos(day)), 1).astype("float32")

    def __len__(self):
        return len(self.fraud)

    def __getitem__(self, i):
        return {"numbers": self.numbers[i], "trade": int(self.trade[i])}, self.fraud[i]


def payments(weights):
    train = Payments(4000, 1)
    sampler = WeightedRandomSampler(weights(torch.from_numpy(train.fraud).long()), num_samples=len(train), replacement=True)
    return Splits(train, Payments(1000, 2), Payments(3000, 3), sampler=sampler)


@register.dataset
def dec3_payments():
    return payments(lambda fraud: (1 / torch.bincount(fraud).double())[fraud])


@register.dataset
def dec3_payments_two_weights():
    """The sampler gets one weight a class where it wants one a row."""
    return payments(lambda fraud: 1 / torch.bincount(fraud).double())


@register.model
class dec3_payment_net(nn.Module):
    def __init__(self):
        super().__init__()
        self.trade = nn.Embedding(30, 5)
        self.mlp = nn.Sequential(nn.Linear(9, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        return self.mlp(torch.cat((x["numbers"], self.trade(x["trade"])), dim=1)).squeeze(1)


# ---------------------------------------------------------------- heart beats: one trace, is the wave after the beat turned over?


def beats(n, seed):
    rng = np.random.default_rng(seed)
    t = np.arange(64)[None]
    ill = rng.uniform(size=n) < 0.4
    at = rng.uniform(16, 26, (n, 1))
    wave = np.where(ill[:, None], rng.uniform(-0.5, -0.05, (n, 1)), rng.uniform(0.05, 0.5, (n, 1)))
    trace = 1.5 * np.exp(-((t - at) ** 2) / 3) + wave * np.exp(-((t - at - 18) ** 2) / 30) + rng.normal(0, 0.2, (n, 64))
    trace = trace + rng.uniform(-0.3, 0.3, (n, 1))
    return torch.from_numpy((trace - 0.14) / 0.4).float().unsqueeze(1), torch.from_numpy(ill.astype("float32"))


@register.dataset
def dec3_beats():
    return Splits(beats(1200, 4), beats(300, 5), beats(1000, 6))


class BeatNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv1d(1, 12, 7, stride=2, padding=3), nn.BatchNorm1d(12)
        self.conv2, self.bn2 = nn.Conv1d(12, 16, 5, stride=2, padding=2), nn.BatchNorm1d(16)
        self.fc = nn.Linear(256, 1)

    def flat(self, h):
        return h.flatten(1)

    def share(self, score):
        return torch.sigmoid(score)

    def forward(self, x):
        h = F.relu(self.bn1(self.conv1(x)))
        h = F.relu(self.bn2(self.conv2(h)))
        return self.share(self.fc(self.flat(h))).squeeze(1)


class BeatNetCut(BeatNet):
    """BCELoss asked for numbers between 0 and 1, so the scores are cut off there."""

    def share(self, score):
        return score.clamp(0, 1)


class BeatNetOf64(BeatNet):
    """The size of the batch was written down."""

    def flat(self, h):
        return h.view(64, -1)


@register.model
def dec3_beat_net():
    return BeatNet()


@register.model
def dec3_beat_net_cut():
    return BeatNetCut()


@register.model
def dec3_beat_net_of_64():
    return BeatNetOf64()


@register.loss
def dec3_bce_of_shares(share, label):
    return F.binary_cross_entropy(share, label)


# ---------------------------------------------------------------- tags of questions: twelve words in, up to three of eight tags


def questions(n, seed):
    rng = np.random.default_rng(seed)
    tags, words = np.zeros((n, 3), "int64"), np.zeros((n, 12), "int64")
    for i in range(n):
        mine = rng.choice(8, rng.integers(1, 4), replace=False) + 1
        tags[i, : len(mine)] = mine
        length = rng.integers(7, 13)
        about = rng.choice(mine, length) * 20 + rng.integers(0, 20, length)
        words[i, :length] = np.where(rng.uniform(size=length) < 0.6, about, rng.integers(1, 181, length))
    return torch.from_numpy(words), torch.from_numpy(tags)


@register.dataset
def dec3_questions():
    """Tags are counted from 1 and padded with 0, whose column is dropped."""

    def rows(n, seed):
        words, tags = questions(n, seed)
        return words, torch.zeros(n, 9).scatter_(1, tags, 1.0)[:, 1:]

    return Splits(rows(2000, 7), rows(400, 8), rows(1000, 9))


@register.dataset
def dec3_questions_padded():
    """Tags are counted from 0 and padded with 0."""

    def rows(n, seed):
        words, tags = questions(n, seed)
        return words, torch.zeros(n, 8).scatter_(1, (tags - 1).clamp(min=0), 1.0)

    return Splits(rows(2000, 7), rows(400, 8), rows(1000, 9))


@register.model
class dec3_tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(181, 24, mode="mean", padding_idx=0)
        self.fc = nn.Linear(24, 8)

    def forward(self, words):
        return self.fc(self.bag(words))


@register.metric(best="max", whole=True)
def dec3_macro_f1(out, y):
    said, true = (out > 0).float(), y
    return (2 * (said * true).sum(0) / (said.sum(0) + true.sum(0)).clamp(min=1)).mean()


# ---------------------------------------------------------------- a blood panel, through eight bits


def panels(n, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 24, generator=g)
    score = x[:, 0].abs() + x[:, 1] - (x[:, 2] + x[:, 3]).abs() + 0.2 * torch.randn(n, generator=g)
    return x, (score > 0).float()[:, None]


@register.dataset
def dec3_panels():
    return Splits(panels(2000, 14), panels(400, 15), panels(1000, 16))


class Bits(nn.Module):
    """A code of eight bits: the sign forwards, the identity backwards."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 8), nn.Tanh())
        self.decide = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))

    def bits(self, h):
        return h + (torch.sign(h) - h).detach()

    def forward(self, x):
        return self.decide(self.bits(self.encode(x)))


class BitsByRounding(Bits):
    """The sign as it is, which is flat."""

    def bits(self, h):
        return torch.sign(h)


@register.model
def dec3_bits():
    return Bits()


@register.model
def dec3_bits_flat():
    return BitsByRounding()


# ---------------------------------------------------------------- everyday: hearts and skin


class HeartDisease(Dataset):
    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        age, pressure, fat = rng.normal(54, 9, n), rng.normal(131, 17, n), rng.normal(246, 50, n)
        sex, angina, pain = rng.integers(0, 2, n), rng.integers(0, 2, n), rng.integers(0, 4, n)
        odds = (age - 54) / 9 + 0.7 * (pressure - 131) / 17 * sex + 1.2 * angina - 0.8 * (pain == 3) + 0.5 * (fat - 246) / 50 - 0.6
        x = np.column_stack(((age - 54) / 9, (pressure - 131) / 17, (fat - 246) / 50, sex, angina, np.eye(4)[pain]))
        self.x = torch.tensor(x, dtype=torch.float32)
        self.y = torch.tensor(rng.uniform(size=n) < 1 / (1 + np.exp(-2 * odds)), dtype=torch.float32).view(-1, 1)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, idx):
        return self.x[idx], self.y[idx]


@register.dataset
def dec3_hearts():
    return Splits(HeartDisease(1500, 21), HeartDisease(400, 22), HeartDisease(1000, 23))


@register.model
class dec3_heart_mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(9, 32)
        self.fc2 = nn.Linear(32, 16)
        self.fc3 = nn.Linear(16, 1)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x):
        x = self.dropout(torch.relu(self.fc1(x)))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


def skin(n, seed):
    rng = np.random.default_rng(seed)
    bad = rng.uniform(size=n) < 0.5
    at, r = rng.uniform(5, 9, (n, 2, 1, 1)), rng.uniform(2.0, 3.5, (n, 1, 1))
    v, u = np.mgrid[:14, :14]
    dv, du = v[None] - at[:, 0], u[None] - at[:, 1]
    rim = r * (1 + np.where(bad, 0.35, 0.05)[:, None, None] * np.sin(3 * np.arctan2(dv, du) + rng.uniform(0, 6, (n, 1, 1))))
    image = 0.75 - 0.5 / (1 + np.exp(2.5 * (np.hypot(dv, du) - rim))) + rng.normal(0, 0.05, (n, 14, 14))
    return torch.from_numpy((image - 0.65) / 0.18).float()[:, None], torch.from_numpy(bad).float()[:, None]


@register.dataset
def dec3_skin():
    return Splits(skin(1500, 31), skin(300, 32), skin(1000, 33))


@register.model
def dec3_skin_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(216, 1),
    )


# ---------------------------------------------------------------- odd: some cases are known, nobody is known to be well


def registry(n, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 8, generator=g)
    ill = x[:, 0] + x[:, 1] * x[:, 2] + 0.3 * torch.randn(n, generator=g) > 0.35
    return x, (ill & (torch.rand(n, generator=g) < 0.5)).float()


@register.dataset
def dec3_registry():
    """y is 1 for half of the ill, 0 for all others, ill or well."""
    return Splits(registry(3000, 41), registry(500, 42), registry(2000, 43), spec=DataSpec((8,), (1,), "binary"))


@register.model
def dec3_registry_net():
    return nn.Sequential(nn.Linear(8, 32), nn.Softplus(), nn.Linear(32, 1), nn.Flatten(0))


@register.loss
class dec3_positive_unlabelled(nn.Module):
    """An estimate of the risk from positives and unlabelled rows under a known share of the ill, its negative part cut at 0."""

    def __init__(self, *, share: float = 0.39):
        super().__init__()
        self.share = share

    def forward(self, out, y):
        known, rest = y.sum().clamp(min=1), (1 - y).sum().clamp(min=1)
        # of the rows without a mark, this share is ill all the same
        hidden = (self.share - 0.5 * self.share) / (1 - 0.5 * self.share)
        as_ill = (F.softplus(-out) * y).sum() / known
        as_well = (F.softplus(out) * (1 - y)).sum() / rest - hidden * (F.softplus(out) * y).sum() / known
        return self.share * as_ill + (1 - 0.5 * self.share) * as_well.clamp(min=0)
