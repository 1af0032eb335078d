"""Tables as a course of data science has them: churn, credit, wines, tumours, blobs, survey answers. See sheets.yaml."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer, make_blobs, make_classification
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import nn
from torch.utils.data import Dataset

from dlrun import Splits, register


class TableDataset(Dataset):
    """Rows of a table with a label each."""

    def __init__(self, rows, y):
        self.X = torch.tensor(rows, dtype=torch.float32)
        self.y = torch.tensor(y)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], self.y[i]


def three_ways(rows, y, sizes):
    """Train, val and test rows, of all classes alike."""
    X_train, X_rest, y_train, y_rest = train_test_split(rows, y, train_size=sizes[0], random_state=42, stratify=y)
    X_val, X_test, y_val, y_test = train_test_split(X_rest, y_rest, train_size=sizes[1], random_state=42, stratify=y_rest)
    return (X_train, y_train), (X_val, y_val), (X_test, y_test)


# ------------------------------------------------------------------ churn


class ChurnDataset(Dataset):
    """Numbers and coded categories of customers, and whether they left."""

    def __init__(self, numbers, codes, left):
        self.numbers = torch.from_numpy(numbers.astype(np.float32))
        self.codes = torch.from_numpy(codes)
        self.left = torch.from_numpy(left.astype(np.float32))

    def __len__(self):
        return len(self.left)

    def __getitem__(self, i):
        return (self.numbers[i], self.codes[i]), self.left[i]


def customers(count, seed):
    rng = np.random.default_rng(seed)
    tenure, charge = rng.gamma(2, 15, count), rng.normal(60, 20, count)
    calls, data, age = rng.poisson(1.5, count), rng.gamma(2, 6, count), rng.uniform(18, 80, count)
    codes = np.stack([rng.integers(0, size, count) for size in (3, 4, 6)], 1)
    score = 0.035 * (charge - 60) - 0.05 * (tenure - 30) + 0.8 * (calls - 1.5) + np.array([1.3, 0, -1.5])[codes[:, 0]]
    score += np.array([0.6, -0.3, -0.3, 0])[codes[:, 1]] + 0.6 * np.sin(codes[:, 2]) - 0.9
    left = rng.random(count) < 1 / (1 + np.exp(-1.5 * score))
    return np.stack([tenure, charge, calls, data, age], 1), codes, left


def churn(invoice=False):
    """The splits; if asked, with the amount of the final invoice, which is written to those who have left, so nobody has it by then."""
    parts = [customers(*size) for size in ((900, 1), (300, 2), (1500, 3))]
    if invoice:
        rng = np.random.default_rng(4)
        for k, (numbers, codes, left) in enumerate(parts):
            amount = np.where(left & (k < 2), rng.gamma(4, 12, len(left)), 0)
            parts[k] = np.c_[numbers, amount], codes, left
    scaler = StandardScaler().fit(parts[0][0])
    return Splits(*(ChurnDataset(scaler.transform(numbers), codes, left) for numbers, codes, left in parts))


@register.dataset
def sht3_churn():
    return churn()


@register.dataset
def sht3_churn_invoice():
    return churn(invoice=True)


@register.model
class sht3_churn_net(nn.Module):
    """An embedding for each category, beside the numbers."""

    def __init__(self, *, numbers: int = 5, width: int = 32):
        super().__init__()
        self.embeddings = nn.ModuleList([nn.Embedding(size, 3) for size in (3, 4, 6)])
        self.fc1 = nn.Linear(numbers + 9, width)
        self.bn1 = nn.BatchNorm1d(width)
        self.fc2 = nn.Linear(width, width // 2)
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(width // 2, 1)

    def forward(self, x):
        numbers, codes = x
        embedded = [embedding(codes[:, k]) for k, embedding in enumerate(self.embeddings)]
        x = torch.cat([numbers, *embedded], dim=1)
        x = self.drop(torch.relu(self.bn1(self.fc1(x))))
        x = torch.relu(self.fc2(x))
        return self.out(x).squeeze(1)


@register.loss
class sht3_bce(nn.Module):
    def __init__(self):
        super().__init__()
        self.criterion = nn.BCEWithLogitsLoss()

    def forward(self, out, y):
        return self.criterion(out, y)


@register.metric(best="max")
def sht3_right(out, y):
    return ((out > 0) == (y > 0.5)).float().mean()


# ------------------------------------------------------------------ credit: missing entries


def applicants(flags=False, fill=0.0, slipped=False):
    """Ten columns, of which six have gaps, and three grades; scaled by what is known in train."""
    X, y = make_classification(2700, 10, n_informative=7, n_redundant=1, n_classes=3, n_clusters_per_class=1, class_sep=1.2, random_state=8)
    X = 40 * X + np.arange(10) * 20
    rng = np.random.default_rng(9)
    X[:, :6][rng.random((2700, 6)) < 0.06] = np.nan
    (X_train, y_train), val, test = three_ways(X, y, (900, 300))
    mean, std = np.nanmean(X_train, 0), np.nanstd(X_train, 0)
    if slipped:
        full = ~np.isnan(X_train[:, 0])
        X_train, y_train = X_train[full], y_train[: full.sum()]
    found = []
    for rows, labels in ((X_train, y_train), val, test):
        scaled = (rows - mean) / std
        missing = np.isnan(scaled)
        scaled = np.where(missing, fill, scaled)
        found.append(TableDataset(np.c_[scaled, missing] if flags else scaled, labels))
    return Splits(*found)


@register.dataset
def sht3_credit():
    return applicants()


@register.dataset
def sht3_credit_minus_999():
    """Gaps are filled as one does it for trees."""
    return applicants(fill=-999.0)


@register.dataset
def sht3_credit_slipped():
    """dropna on the columns; the labels were a list of their own and are cut to the same length."""
    return applicants(slipped=True)


@register.dataset
def sht3_credit_flags():
    """Ten more columns say what is missing; four of them never say so."""
    return applicants(flags=True)


# ------------------------------------------------------------------ wines: four classes


def wines(integer=False):
    X, y = make_classification(
        2600, 13, n_informative=8, n_redundant=2, n_classes=4, n_clusters_per_class=1, class_sep=1.3, random_state=21
    )
    parts = three_ways(X, y, (800, 300))
    scaler = MinMaxScaler((0, 1)).fit(parts[0][0])
    found = []
    for rows, labels in parts:
        table = np.zeros(rows.shape, dtype=int) if integer else np.zeros(rows.shape)
        table[:] = scaler.transform(rows)
        found.append(TableDataset(table, labels))
    return Splits(*found)


@register.dataset
def sht3_wines():
    return wines()


@register.dataset
def sht3_wines_whole_numbers():
    """The table that takes the scaled columns was made for integers."""
    return wines(integer=True)


class MLP(nn.Module):
    def __init__(self, before, after, hidden=(48, 32)):
        super().__init__()
        layers = []
        for width in hidden:
            layers += [nn.Linear(before, width), nn.ReLU()]
            before = width
        self.layers = nn.Sequential(*layers, nn.Linear(before, after))

    def forward(self, x):
        return self.layers(x)


@register.model
def sht3_mlp(in_shape, out_shape):
    return MLP(in_shape[0], out_shape[0])


@register.model
def sht3_mlp_deep(in_shape, out_shape):
    return MLP(in_shape[0], out_shape[0], (64, 48, 32))


@register.model
def sht3_mlp_deep_uniform(in_shape, out_shape):
    """Weights drawn by uniform_ as it comes: between 0 and 1."""

    def init_weights(m):
        if isinstance(m, nn.Linear):
            nn.init.uniform_(m.weight)
            nn.init.zeros_(m.bias)

    return MLP(in_shape[0], out_shape[0], (64, 48, 32)).apply(init_weights)


@register.model
def sht3_mlp_dropout(in_shape, out_shape, *, p: float = 0.2):
    return nn.Sequential(
        nn.Linear(in_shape[0], 64), nn.ReLU(), nn.Dropout(p), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(p), nn.Linear(32, out_shape[0])
    )


@register.loss
def sht3_cross_entropy(out, y):
    return F.cross_entropy(out, y)


@register.loss
class sht3_focal(nn.Module):
    """Rows that are right already count less."""

    def __init__(self, *, gamma: float = 2.0):
        super().__init__()
        self.gamma = gamma

    def weight(self, p):
        return (1 - p) ** self.gamma

    def forward(self, out, y):
        log_p = F.log_softmax(out, dim=1).gather(1, y[:, None])[:, 0]
        return -(self.weight(log_p.exp()) * log_p).mean()


@register.loss
class sht3_focal_turned(sht3_focal):
    """Rows that are wrong count less."""

    def weight(self, p):
        return p**self.gamma


# ------------------------------------------------------------------ tumours and blobs


@register.dataset
def sht3_tumours():
    X, y = load_breast_cancer(return_X_y=True)
    parts = three_ways(X, y, (300, 110))
    scaler = StandardScaler().fit(parts[0][0])
    return Splits(*(TableDataset(scaler.transform(rows), labels) for rows, labels in parts))


@register.dataset
def sht3_blobs():
    """Four measures of three kinds of flowers, in centimetres less the mean."""
    centres = np.array([[5.0, 3.4, 1.5, 0.3], [5.9, 2.8, 4.2, 1.3], [6.6, 3.0, 5.5, 2.0]])
    X, y = make_blobs(1500, centers=centres, cluster_std=0.45, random_state=3)
    parts = three_ways(X, y, (300, 150))
    mean = parts[0][0].mean(0)
    return Splits(*(TableDataset(rows - mean, labels) for rows, labels in parts))


@register.model
class sht3_iris_net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(4, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, 3)

    def forward(self, x):
        x = torch.tanh(self.fc1(x))
        x = torch.tanh(self.fc2(x))
        return self.fc3(x)


# ------------------------------------------------------------------ answers in order


class LevelsDataset(Dataset):
    """The answer 0..4 of a survey as four questions: more than 0, more than 1, ..."""

    def __init__(self, count, seed):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(count, 8)).astype(np.float32)
        score = X[:, 0] - 0.7 * X[:, 1] + 0.8 * np.tanh(2 * X[:, 2]) + 0.5 * X[:, 3] * X[:, 4] + rng.normal(0, 0.3, count)
        self.X, self.answer = torch.from_numpy(X), torch.from_numpy(np.digitize(score, [-1.8, -0.6, 0.5, 1.6]))

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], (self.answer[i] > torch.arange(4)).float()


@register.dataset
def sht3_answers():
    return Splits(LevelsDataset(900, 51), LevelsDataset(300, 52), LevelsDataset(1200, 53))


@register.model
class sht3_ordinal(nn.Module):
    """One score, and four thresholds that it has to pass."""

    def __init__(self):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(8, 32), nn.ELU(), nn.Linear(32, 16), nn.ELU(), nn.Linear(16, 1, bias=False))
        self.thresholds = nn.Parameter(torch.linspace(-1.5, 1.5, 4))

    def forward(self, x):
        return self.score(x) - self.thresholds


@register.metric(best="max")
def sht3_same_answer(out, y):
    return ((out > 0).sum(1) == y.sum(1)).float().mean()


# ------------------------------------------------------------------ optimizers


@register.optimizer
def sht3_adam(named_parameters, *, lr: float = 3e-3, weight_decay: float = 0.0):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr, weight_decay=weight_decay)


@register.optimizer
def sht3_sgd(named_parameters, *, lr: float = 0.1):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, momentum=0.9)


class AveragedAdam(torch.optim.Adam):
    """Adam that keeps an average of the weights, and writes it into the network after each step."""

    @torch.no_grad()
    def step(self, closure=None):
        before = [[p.clone() for p in group["params"]] for group in self.param_groups]
        super().step()
        for group, old in zip(self.param_groups, before, strict=True):
            for p, average in zip(group["params"], old, strict=True):
                p.copy_(average.mul_(0.999).add_(p, alpha=0.001))


@register.optimizer
def sht3_adam_average_written_back(named_parameters, *, lr: float = 3e-3):
    return AveragedAdam([p for _, p in named_parameters], lr=lr)


class RMSpropByHand(torch.optim.Optimizer):
    """Divides a gradient by the root of the running mean of its squares."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr, "alpha": 0.9})

    def scale(self, square):
        return square.sqrt().add_(1e-8)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                square = self.state[p].setdefault("square", torch.zeros_like(p))
                square.mul_(group["alpha"]).addcmul_(p.grad, p.grad, value=1 - group["alpha"])
                p.addcdiv_(p.grad, self.scale(square), value=-group["lr"])


class RMSpropWithoutRoot(RMSpropByHand):
    def scale(self, square):
        return square.add(1e-8)


@register.optimizer
def sht3_rmsprop(named_parameters, *, lr: float = 2e-3):
    return RMSpropByHand([p for _, p in named_parameters], lr)


@register.optimizer
def sht3_rmsprop_without_root(named_parameters, *, lr: float = 2e-3):
    return RMSpropWithoutRoot([p for _, p in named_parameters], lr)
