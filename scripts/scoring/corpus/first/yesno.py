"""One or several yes-or-no answers a row: tumours, even digits, fraud, tags, pairs. See yesno.yaml."""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset, WeightedRandomSampler

from dlrun import Splits, register

# ---------------------------------------------------------------- even digits, a small CNN


def digits():
    pictures, names = load_digits(return_X_y=True)
    order = np.random.RandomState(3).permutation(len(names))
    return torch.tensor(pictures[order] / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(names[order])


@register.dataset
def yes2_even():
    x, names = digits()
    y = (names % 2 == 0).float()
    return Splits((x[:650], y[:650]), (x[650:797], y[650:797]), (x[797:], y[797:]))


class SmallCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 12, 3, padding=1)
        self.fc1 = nn.Linear(12 * 4, 12)
        self.head = nn.Linear(12, 1)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.head(x)[:, 0]


@register.model
def yes2_cnn():
    return SmallCNN()


@register.model
def yes2_cnn_frozen():
    """The lines of a fine-tuning tutorial, without the pretrained weights."""
    net = SmallCNN()
    for p in net.parameters():
        p.requires_grad = False
    net.head = nn.Linear(net.head.in_features, 1)
    return net


@register.loss
class yes2_bce(nn.Module):
    def __init__(self, *, pos_weight: float = 1.0):
        super().__init__()
        self.pos_weight = pos_weight

    def forward(self, out, y):
        return F.binary_cross_entropy_with_logits(out, y, pos_weight=torch.tensor(self.pos_weight))


@register.loss
def yes2_bce_of_decisions(out, y):
    """Probabilities are rounded before they are compared."""
    return F.binary_cross_entropy(torch.sigmoid(out).round(), y)


@register.metric(best="max")
def yes2_right(out, y):
    return ((out > 0).float() == (y > 0).float()).float().mean()


@register.optimizer
def yes2_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters if p.requires_grad], lr=lr)


class ClearsFirst(torch.optim.Adam):
    """A user's step that clears gradients where they are about to be used."""

    def step(self, closure=None):
        self.zero_grad()
        return super().step(closure)


@register.optimizer
def yes2_adam_clears_first(named_parameters, *, lr: float = 3e-3):
    return ClearsFirst([p for _, p in named_parameters], lr=lr)


@register.optimizer
def yes2_adamw_groups(named_parameters, *, lr: float = 3e-3):
    """Decay for matrices only."""
    params = [p for _, p in named_parameters]
    decay = (p for p in params if p.dim() > 1)
    other = [p for p in params if p.dim() <= 1]
    return torch.optim.AdamW([{"params": decay, "weight_decay": 0.01}, {"params": other, "weight_decay": 0.0}], lr=lr)


@register.optimizer
def yes2_adamw_groups_counted(named_parameters, *, lr: float = 3e-3):
    """The weights are counted before the optimizer gets them, which uses the generator up."""
    params = [p for _, p in named_parameters]
    decay = (p for p in params if p.dim() > 1)
    other = [p for p in params if p.dim() <= 1]
    count = sum(p.numel() for p in decay)
    assert count > 0
    return torch.optim.AdamW([{"params": decay, "weight_decay": 0.01}, {"params": other, "weight_decay": 0.0}], lr=lr)


# ---------------------------------------------------------------- tumours: a margin, and probabilities


def tumours(low, high):
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(y))
    x, y = x[order], y[order]
    x = StandardScaler().fit(x[:300]).transform(x).astype("float32")
    y = np.where(y == 1, high, low).astype("float32")
    return Splits(*((torch.from_numpy(x[rows]), torch.from_numpy(y[rows])) for rows in (slice(300), slice(300, 369), slice(369, None))))


@register.dataset
def yes2_tumours_signed():
    return tumours(-1, 1)


@register.dataset
def yes2_tumours():
    return tumours(0, 1)


@register.model
def yes2_tumour_net():
    return nn.Sequential(nn.Linear(30, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))


@register.model
def yes2_tumour_probability():
    return nn.Sequential(nn.Linear(30, 16), nn.LeakyReLU(0.1), nn.Linear(16, 1), nn.Sigmoid(), nn.Flatten(0))


@register.loss
def yes2_hinge(out, y):
    return torch.clamp(1 - y * out, min=0).mean()


@register.loss
def yes2_bce_of_probability(out, y):
    p = out.clamp(1e-5, 1 - 1e-5)
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean()


# ---------------------------------------------------------------- symptoms: bags of ids, padded with 0

SYMPTOMS, LONGEST = 60, 14


class Patients(Dataset):
    def __init__(self, n, seed):
        rng = np.random.RandomState(seed)
        weight = np.random.RandomState(77).randn(SYMPTOMS + 1)
        self.rows, self.ill = [], []
        for _ in range(n):
            own = rng.choice(np.arange(1, SYMPTOMS + 1), rng.randint(3, LONGEST), replace=False)
            self.rows.append(np.pad(own, (0, LONGEST - len(own))))
            self.ill.append(float(weight[own].mean() + 0.1 * rng.randn() > 0))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return torch.tensor(self.rows[i]), torch.tensor(self.ill[i])


@register.dataset
def yes2_patients():
    return Splits(Patients(1200, 0), Patients(300, 1), Patients(1000, 2))


class MeanOfSymptoms(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.emb = nn.Embedding(SYMPTOMS + 1, dim, padding_idx=0)
        self.bias = nn.Parameter(torch.zeros(dim))
        self.clf = nn.Sequential(nn.Linear(dim, 32), nn.ReLU(), nn.Linear(32, 1))

    def counted(self, ids):
        return ids != 0

    def forward(self, ids):
        keep = self.counted(ids).float().unsqueeze(-1)
        pooled = (self.emb(ids) * keep).sum(1) / keep.sum(1).clamp(min=1)
        return self.clf(pooled + self.bias).squeeze(-1)


class MeanOfPadding(MeanOfSymptoms):
    """True stands for padding in some libraries and for tokens in others."""

    def counted(self, ids):
        return ids == 0


@register.model
def yes2_bag():
    return MeanOfSymptoms()


@register.model
def yes2_bag_of_padding():
    return MeanOfPadding()


# ---------------------------------------------------------------- late payers: a column made of labels


def payers(n, seed):
    rng = np.random.RandomState(seed)
    x = rng.randn(n, 5)
    address = rng.randint(0, 20000, n)
    district = np.random.RandomState(5).randn(50)
    chance = 1 / (1 + np.exp(-(x[:, 0] + 0.8 * x[:, 1] * x[:, 2] + district[address // 400])))
    return x, address, (rng.rand(n) < chance).astype(float)


def encoded(x, column, y):
    column = (column - 0.5) / 0.3
    return torch.tensor(np.c_[x, column], dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


@register.dataset
def yes2_payers():
    """The sixth column is the share of late payers in the district a year ago."""
    _, before, late = payers(5000, 50)
    share = np.array([late[before // 400 == d].mean() for d in range(50)])
    return Splits(*(encoded(x, share[where // 400], y) for x, where, y in (payers(900, 0), payers(300, 1), payers(1000, 2))))


@register.dataset
def yes2_payers_encoded_on_train():
    """The sixth column is the share of late payers at the address, of the very training rows."""
    x, where, y = payers(900, 0)
    share = {place: y[where == place].mean() for place in set(where)}
    sets = ((x, where, y), payers(300, 1), payers(1000, 2))
    return Splits(*(encoded(a, np.array([share.get(place, y.mean()) for place in b]), c) for a, b, c in sets))


@register.model
def yes2_payer_net():
    return nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1), nn.Flatten(0))


# ---------------------------------------------------------------- fraud: few positives


def fraud(n, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 10, generator=g)
    score = x[:, 0] + x[:, 1] * x[:, 2] - 0.5 * x[:, 3] + 1.2 * torch.randn(n, generator=g)
    return x, (score > 2.6).float()


@register.dataset
def yes2_fraud():
    x, y = fraud(1200, 0)
    return Splits((x[:800], y[:800]), (x[800:], y[800:]), fraud(2000, 1))


@register.dataset
def yes2_fraud_copied_first():
    """Positives are copied until both classes are alike, then the rows are split."""
    x, y = fraud(1200, 0)
    more = int((y == 0).sum() / (y == 1).sum()) - 1
    x, y = torch.cat((x, x[y == 1].repeat(more, 1))), torch.cat((y, y[y == 1].repeat(more)))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(9))
    train, val = order[: len(x) * 3 // 4], order[len(x) * 3 // 4 :]
    return Splits((x[train], y[train]), (x[val], y[val]), fraud(2000, 1))


@register.dataset
def yes2_fraud_drawn():
    """Rows of both classes are drawn alike often, in train only."""
    x, y = fraud(3000, 0)
    share = torch.where(y == 1, 1 / y.mean(), 1 / (1 - y.mean()))
    draw = WeightedRandomSampler(share.tolist(), 3000, replacement=True)
    return Splits((x, y), fraud(1500, 3), fraud(2000, 1), sampler=draw)


@register.model
def yes2_wide():
    return nn.Sequential(nn.Linear(10, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1), nn.Flatten(0))


@register.model
def yes2_wide_with_prior():
    """The head starts at 0 but for its bias, which says one in a hundred."""
    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))
    nn.init.zeros_(net[2].weight)
    nn.init.constant_(net[2].bias, -math.log(99))
    return net


@register.loss
def yes2_focal(out, y):
    p = torch.sigmoid(out)
    right = p * y + (1 - p) * (1 - y)
    return (((1 - right) ** 2) * F.binary_cross_entropy_with_logits(out, y, reduction="none")).sum() / y.sum().clamp(min=1)


@register.metric(best="max", whole=True)
def yes2_auc(out, y):
    high, low = out[y == 1], out[y == 0]
    return ((high[:, None] > low).double() + 0.5 * (high[:, None] == low)).mean()


# ---------------------------------------------------------------- films: six genres, some known


def films(n, seed, order=None, known=False):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 12, generator=g)
    mix = torch.randn(12, 6, generator=torch.Generator().manual_seed(8))
    level = torch.tensor([1.5, 0.5, -0.5, -1.0, -1.5, -2.0])
    y = (x @ mix / 2 + level + 0.3 * torch.randn(n, 6, generator=g) > 0).float()
    if order is not None:
        y = y[:, order]
    return {"x": x, "y": y, "mask": torch.rand(n, 6, generator=g) < 0.3} if known else {"x": x, "y": y}


@register.dataset
def yes2_films():
    return Splits(films(1200, 0), films(300, 1), films(1000, 2))


@register.dataset
def yes2_films_columns_by_split():
    """Columns of labels stand in the order in which a split first names them."""
    return Splits(films(1200, 0), films(300, 1, [3, 0, 4, 1, 5, 2]), films(1000, 2, [3, 0, 4, 1, 5, 2]))


@register.dataset
def yes2_films_partly():
    return Splits(films(1500, 0, known=True), films(300, 1, known=True), films(1000, 2, known=True))


@register.model
def yes2_film_net():
    return nn.Sequential(nn.Linear(12, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 6))


# ---------------------------------------------------------------- spins, texts, pairs


@register.dataset
def yes2_spins():
    """Eight spins, +1 or -1: 256 rows there are, each many times and in every split."""

    def rows(n, seed):
        x = torch.randint(0, 2, (n, 8), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
        return x, (x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3] + x[:, 4] > 0).float()

    return Splits(rows(1500, 0), rows(300, 1), rows(1000, 2))


@register.model
def yes2_spin_net():
    return nn.Sequential(nn.Linear(8, 48), nn.Tanh(), nn.Linear(48, 1), nn.Flatten(0))


@register.dataset
def yes2_spam():
    """Words that are in a text or not: most columns are 0 in most rows; labels -1 and 1."""

    def rows(n, seed):
        g = torch.Generator().manual_seed(seed)
        common = 0.6 / torch.arange(1, 401) ** 0.7
        x = (torch.rand(n, 400, generator=g) < common).float()
        weight = torch.randn(400, generator=torch.Generator().manual_seed(1))
        return x, torch.sign(x @ weight + 0.3 * torch.randn(n, generator=g))

    return Splits(rows(1500, 0), rows(300, 1), rows(1000, 2))


@register.model
class yes2_line(nn.Module):
    """A line through the origin of 400 dimensions, all weights 0 at first."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(400))

    def forward(self, x):
        return x @ self.w


@register.loss
def yes2_squared_hinge(out, y):
    return F.relu(1 - y * out).square().mean()


@register.optimizer
def yes2_plain_sgd(named_parameters, *, lr: float = 0.2):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, weight_decay=1e-4)


@register.schedule
def yes2_one_over_t(step, steps):
    return 1 / (1 + step / 50)


class SameDigit(Dataset):
    """Two pictures a row, the second drawn by a rule of its own; y says whether they show one digit."""

    def __init__(self, x, names, n, seed):
        rng = np.random.RandomState(seed)
        self.x = x
        self.left = rng.randint(0, len(x), n)
        alike = [np.flatnonzero(names.numpy() == name) for name in range(10)]
        self.right = np.array([rng.choice(alike[int(names[i])]) if rng.rand() < 0.5 else rng.randint(0, len(x)) for i in self.left])
        self.same = (names[self.left] == names[self.right]).float()

    def __len__(self):
        return len(self.left)

    def __getitem__(self, i):
        return (self.x[self.left[i]].flatten(), self.x[self.right[i]].flatten()), self.same[i]


@register.dataset
def yes2_same_digit():
    x, names = digits()
    sets = ((slice(900), 2500), (slice(900, 1200), 300), (slice(1200, None), 1000))
    return Splits(*(SameDigit(x[part], names[part], n, n) for part, n in sets))


@register.model
class yes2_twins(nn.Module):
    """One network for both pictures; the logit falls with the distance of what it says."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 16))
        self.scale, self.level = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        a, b = (F.normalize(self.net(side), dim=1) for side in x)
        return 4 * (self.level - self.scale * (a - b).square().sum(1))
