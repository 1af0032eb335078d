"""Blood tests, cells, patients and pupils: tables and small images of a course on data in medicine and schools. See clinics.yaml."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from dlrun import Splits, register

# blood tests: anaemia (1), infection (2) or neither (0)

USUAL = np.array([13.5, 250_000.0, 7_000.0, 1.0, 140.0, 100.0, 50.0, 37.0])
SPREAD = np.array([1.8, 60_000.0, 2_000.0, 0.3, 3.0, 20.0, 17.0, 0.6])


def blood(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Eight measurements in the units of the laboratory, and what the doctor wrote."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, 8))
    a = z[:, 0] - z[:, 3] + 0.5 * z[:, 5] + 0.3 * rng.normal(size=rows)
    b = z[:, 7] + 0.8 * z[:, 2] - 0.5 * z[:, 1] * z[:, 6] + 0.3 * rng.normal(size=rows)
    return USUAL + SPREAD * z, np.where(b > 1.5, 2, np.where(a > 1.5, 1, 0))


def blood_splits(axis: int) -> Splits:
    train, mean, std = blood(900, 11), None, None
    if axis == 0:
        mean, std = train[0].mean(0), train[0].std(0)

    def ready(part: tuple[np.ndarray, np.ndarray]) -> tuple[Tensor, Tensor]:
        x, y = part
        m, s = (mean, std) if axis == 0 else (x.mean(axis, keepdims=True), x.std(axis, keepdims=True))
        return torch.tensor((x - m) / s, dtype=torch.float32), torch.tensor(y)

    return Splits(ready(train), ready(blood(300, 12)), ready(blood(1200, 13)))


@register.dataset
def cli4_blood() -> Splits:
    return blood_splits(0)


@register.dataset
def cli4_blood_by_rows() -> Splits:
    """Each patient is standardised over the eight columns instead of each column over the patients."""
    return blood_splits(1)


@register.model
class cli4_blood_net(nn.Module):
    def __init__(self, in_shape, *, hidden: int = 48, classes_out: int = 3) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_shape[0], hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, classes_out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def counts() -> Tensor:
    return torch.bincount(torch.tensor(blood(900, 11)[1]), minlength=3).float()


@register.loss
class cli4_balanced(nn.Module):
    """Cross-entropy with weights that go with one over the frequency."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", self.weights(counts()))

    def weights(self, n: Tensor) -> Tensor:
        return (n.sum() / n).sqrt() / (n.sum() / n).sqrt().mean()

    def forward(self, out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out, y, weight=self.weight)


@register.loss
class cli4_balanced_by_difference(cli4_balanced):
    """Weights that fall with the frequency, down to nothing for the class most have."""

    def weights(self, n: Tensor) -> Tensor:
        return 1 - n / n.max()


@register.loss
def cli4_cross_entropy(out, y) -> Tensor:
    return F.cross_entropy(out, y)


@register.optimizer
def cli4_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


@register.optimizer
def cli4_sgd(named_parameters, *, lr: float = 0.05):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, momentum=0.9)


# patients who came several times: does the drug work?

VISITS = 6


def visits(patients: int, seed: int) -> tuple[Tensor, Tensor]:
    """[patients, visits, 10], [patients, visits]: measurements within one morning hardly differ, the answer is the patient's."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(patients) % 2
    person = torch.randn(patients, 10, generator=g)
    person[:, :4] += 0.45 * (2 * y[:, None] - 1)
    x = person[:, None, :] + 0.03 * torch.randn(patients, VISITS, 10, generator=g)
    return x, y[:, None].expand(-1, VISITS).contiguous()


@register.dataset
def cli4_drug_by_patient() -> Splits:
    """Every patient is in one split only."""
    x, y = visits(260, 21)
    tx, ty = visits(300, 22)
    return Splits((x[:200].flatten(0, 1), y[:200].flatten()), (x[200:].flatten(0, 1), y[200:].flatten()), (tx.flatten(0, 1), ty.flatten()))


@register.dataset
def cli4_drug_by_visit() -> Splits:
    """The visits are shuffled and then split, so that patients are in both."""
    x, y = (part.flatten(0, 1) for part in visits(260, 21))
    tx, ty = (part.flatten(0, 1) for part in visits(300, 22))
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    return Splits((x[:1200], y[:1200]), (x[1200:], y[1200:]), (tx, ty))


# pupils: the score of the last exam from what is known before

KNOWN = 8


def pupils(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, KNOWN, generator=g)
    score = torch.sin(1.5 * x[:, 0]) + x[:, 1] * x[:, 2] * 0.7 + 0.6 * torch.relu(x[:, 3] + x[:, 4]) - 0.5 * x[:, 5]
    score = score + 0.15 * torch.randn(rows, generator=g)
    return x, (score - 0.35) / 1.3


@register.dataset
def cli4_pupils() -> Splits:
    return Splits(pupils(1000, 31), pupils(300, 32), pupils(1000, 33))


class Dense(nn.Module):
    """A fully connected layer by hand, as in the second week of the course."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(n_in, n_out) * math.sqrt(2 / n_in))
        self.b = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.W + self.b


@register.model
class cli4_own_layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense1, self.dense2 = Dense(KNOWN, 32), Dense(32, 32)
        self.head = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.dense2(F.relu(self.dense1(x))))).squeeze(1)


@register.loss
def cli4_mse(out, y) -> Tensor:
    return F.mse_loss(out, y)


@register.optimizer
def cli4_adamw_two_groups(named_parameters, *, lr: float = 5e-3):
    """Matrices are decayed, vectors are not."""
    named = list(named_parameters)
    decay = [p for _, p in named if p.ndim > 1]
    rest = [p for _, p in named if p.ndim <= 1]
    return torch.optim.AdamW([{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}], lr=lr)


@register.optimizer
def cli4_adamw_by_names(named_parameters, *, lr: float = 5e-3):
    """Groups by the names that torch's layers use; what is called otherwise is in neither."""
    named = list(named_parameters)
    decay = [p for n, p in named if n.endswith("weight")]
    rest = [p for n, p in named if n.endswith("bias")]
    return torch.optim.AdamW([{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}], lr=lr)


@register.schedule
def cli4_halved_every_few(optimizer, steps):
    """Half the rate after each fifth of the training."""
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=max(steps // 5, 1), gamma=0.5)


# growth: a child's height with how sure one is of it


def growth(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 5, generator=g)
    mean = x[:, 0] + 0.6 * torch.tanh(2 * x[:, 1]) * x[:, 2] + 0.3 * x[:, 3]
    spread = 0.05 + 0.25 * torch.sigmoid(2 * x[:, 4])
    return x, (mean + spread * torch.randn(rows, generator=g)) / 1.2


@register.dataset
def cli4_growth() -> Splits:
    return Splits(growth(900, 41), growth(300, 42), growth(1000, 43))


@register.model
class cli4_mean_and_log_variance(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(40, 1), nn.Linear(40, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x)
        return torch.cat((self.mean(h), self.log_variance(h)), dim=1)


@register.loss
def cli4_normal(out, y) -> Tensor:
    """Minus the log-density of a normal distribution, constants left out."""
    mean, s = out[:, 0], out[:, 1]
    return (0.5 * torch.exp(-s) * (y - mean) ** 2 + 0.5 * s).mean()


@register.loss
def cli4_normal_times_variance(out, y) -> Tensor:
    """The square is multiplied by the variance."""
    mean, s = out[:, 0], out[:, 1]
    return (0.5 * torch.exp(s) * (y - mean) ** 2 + 0.5 * s).mean()


@register.metric(best="min")
def cli4_off_by(out, y) -> Tensor:
    return (out[:, 0] - y).abs().mean()


# a picture of a smear and four numbers


class Smears(Dataset):
    """A 16 x 16 picture with stripes one of two ways and four numbers, of which two tell on which side of a line: four classes."""

    def __init__(self, rows: int, seed: int) -> None:
        g = torch.Generator().manual_seed(seed)
        way = torch.randint(2, (rows,), generator=g)
        self.table = torch.randn(rows, 4, generator=g)
        self.y = 2 * way + (self.table[:, 0] + self.table[:, 1] > 0).long()
        u = torch.arange(16.0)
        angle = torch.where(way == 1, 0.9, 0.55)[:, None, None] + 0.08 * torch.randn(rows, 1, 1, generator=g)
        phase = 2 * math.pi * torch.rand(rows, 1, 1, generator=g)
        wave = torch.sin(1.1 * (torch.cos(angle) * u[None, :, None] + torch.sin(angle) * u[None, None, :]) + phase)
        self.picture = (0.5 + 0.2 * wave + 0.12 * torch.randn(rows, 16, 16, generator=g)).clamp(0, 1).unsqueeze(1)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[dict[str, Tensor], Tensor]:
        return {"picture": (self.picture[i] - 0.5) / 0.2, "table": self.table[i]}, self.y[i]


@register.dataset
def cli4_smears() -> Splits:
    return Splits(Smears(1000, 51), Smears(300, 52), Smears(1000, 53))


@register.model
class cli4_two_inputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Sequential(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.table = nn.Sequential(nn.Linear(4, 16), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(28, 32), nn.ReLU(), nn.Linear(32, 4))

    def look(self, picture: Tensor) -> Tensor:
        return self.eye(picture).flatten(1)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return self.head(torch.cat((self.look(x["picture"]), self.table(x["table"])), dim=1))


@register.model
class cli4_two_inputs_no_grad(cli4_two_inputs):
    """The features of the picture are still taken as they were when the network came pretrained."""

    def look(self, picture: Tensor) -> Tensor:
        with torch.no_grad():
            return self.eye(picture).flatten(1)


# plain: who comes back to the hospital


def stays(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    numbers = torch.randn(rows, 9, generator=g)
    flags = (torch.rand(rows, 3, generator=g) < torch.tensor([0.5, 0.3, 0.2])).float()
    risk = numbers[:, 0] + 0.8 * numbers[:, 1] * flags[:, 0] - 0.7 * numbers[:, 2].abs() + 1.2 * flags[:, 1] - 0.3
    y = (torch.rand(rows, generator=g) < torch.sigmoid(2 * risk)).float()
    return torch.cat((numbers, flags), 1), y


@register.dataset
def cli4_stays() -> Splits:
    return Splits(stays(1500, 61), stays(400, 62), stays(1500, 63))


@register.model
class cli4_dropout_mlp(nn.Module):
    def __init__(self, in_shape) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_shape[0], 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).squeeze(-1)


@register.loss
def cli4_bce(out, y) -> Tensor:
    return nn.BCEWithLogitsLoss()(out, y)


# plain: cells under the microscope


class Cells(Dataset):
    """20 x 20 bytes: one nucleus, two of them, or a ring; training pictures are flipped at random."""

    def __init__(self, rows: int, seed: int, train: bool) -> None:
        rng = np.random.default_rng(seed)
        self.train = train
        self.labels = rng.integers(0, 3, rows)
        yy, xx = np.mgrid[:20, :20]
        self.images = np.zeros((rows, 20, 20), np.uint8)
        for i, kind in enumerate(self.labels):
            cy, cx, r = *rng.uniform(7, 12, 2), rng.uniform(4, 6)
            d = np.hypot(yy - cy, xx - cx)
            cell = 90.0 + 60 * (d < r + 1)
            if kind == 2:
                cell += 60 * (np.abs(d - r + 1.5) < 0.9)
            else:
                turn = rng.uniform(0, 2 * np.pi)
                for side in (1, -1)[: kind + 1]:
                    at = side * 2.2 * np.array([np.sin(turn), np.cos(turn)])
                    cell += 60 * (np.hypot(yy - cy - at[0], xx - cx - at[1]) < 1.7)
            self.images[i] = np.clip(cell + 18 * rng.normal(size=(20, 20)), 0, 255)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self.images[i]).float().div(255).unsqueeze(0)
        if self.train:
            if torch.rand(()) < 0.5:
                image = image.flip(-1)
            if torch.rand(()) < 0.5:
                image = image.flip(-2)
        return (image - 0.45) / 0.2, int(self.labels[i])


@register.dataset
def cli4_cells() -> Splits:
    return Splits(Cells(1000, 71, True), Cells(300, 72, False), Cells(1000, 73, False))


@register.model
class cli4_cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(24 * 5 * 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = self.pool(F.relu(self.bn2(self.conv2(x))))
        return self.fc(x.flatten(1))


# odd: in which of six years, if it was seen at all

YEARS = 6


def survival(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """x and [last year under observation, 1 if that was the end and 0 if the patient was not seen again]."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 8, generator=g)
    log_rate = -1.4 + 0.9 * x[:, 0] - 0.8 * x[:, 1] * (x[:, 2] > 0) + 0.5 * x[:, 3]
    end = -torch.rand(rows, generator=g).clamp_min(1e-6).log() / log_rate.exp()
    lost = torch.rand(rows, generator=g) * 9
    seen = torch.minimum(torch.minimum(end, lost), torch.tensor(YEARS - 1e-3))
    return x, torch.stack((seen.floor(), (end <= seen).float()), dim=1)


@register.dataset
def cli4_survival() -> Splits:
    return Splits(survival(1200, 81), survival(300, 82), survival(1500, 83))


@register.model
class cli4_hazards(nn.Module):
    """The logit of the hazard of each year: a level a year and what the patient adds."""

    def __init__(self, in_shape) -> None:
        super().__init__()
        self.patient = nn.Sequential(nn.Linear(in_shape[0], 32), nn.SiLU(), nn.Linear(32, YEARS))
        self.level = nn.Parameter(torch.full((YEARS,), -1.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.level + self.patient(x)


@register.loss
def cli4_discrete_hazards(out, y) -> Tensor:
    """Each year survived counts as no, the year of the end as yes, years not seen not at all."""
    year = torch.arange(out.shape[1], device=out.device)
    last, event = y[:, :1], y[:, 1:]
    yes = (year == last).float() * event
    counts_here = ((year < last) | ((year == last) & (event > 0))).float()
    return (F.binary_cross_entropy_with_logits(out, yes, reduction="none") * counts_here).sum(1).mean()


# odd: two eyes of one patient, one network, the worse eye decides


def eyes(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    u = torch.arange(14.0)
    pictures = 0.5 * torch.randn(rows, 2, 14, 14, generator=g)
    ill = torch.rand(rows, 2, generator=g) < 0.3
    at = 3 + 8 * torch.rand(rows, 2, 2, generator=g)
    spot = torch.exp(-((u[:, None] - at[..., 0, None, None]) ** 2 + (u[None, :] - at[..., 1, None, None]) ** 2) / 3)
    vein = torch.exp(-((u[None, :] - at[..., 1, None, None] * 0.7 - 0.3 * u[:, None]) ** 2) / 2)
    pictures = pictures + vein + 1.8 * ill[..., None, None] * spot
    return (pictures - pictures.mean((2, 3), keepdim=True)), ill.any(dim=1).float()


@register.dataset
def cli4_eyes() -> Splits:
    return Splits(eyes(900, 91), eyes(300, 92), eyes(1000, 93))


@register.model
class cli4_worse_eye(nn.Module):
    """One network looks at both eyes; the larger of its two answers counts."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1)
        )
        self.score = nn.Linear(16, 1)

    def one(self, eye: Tensor) -> Tensor:
        return self.score(self.look(eye).flatten(1)).squeeze(1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x[:, :1], x[:, 1:]
        return torch.maximum(self.one(left), self.one(right))
