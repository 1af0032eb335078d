"""Two views of a short tone, and two towers for readings and codes of one state. See pairs.yaml."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset

from dlrun import Splits, register

SAMPLES = 32


def tones(count, seed):
    """Each tone is a mix of five harmonics of its own strengths and phases."""
    rng = np.random.default_rng(seed)
    order = np.arange(1, 6)[None, :, None]
    strength, phase = rng.uniform(0.1, 1.0, (count, 5, 1)), rng.uniform(0, 2 * np.pi, (count, 5, 1))
    return (strength * np.sin(2 * np.pi * order * np.arange(SAMPLES) / SAMPLES + phase)).sum(1).astype(np.float32)


class TwoViews(Dataset):
    """(A view, another view) and the number of the tone: gain, roll and noise are drawn anew, in val and test once for all."""

    def __init__(self, count, seed, frozen=False):
        self.tones, self.frozen, self.seed = tones(count, seed), frozen, seed

    def __len__(self):
        return len(self.tones)

    def random(self, i):
        return np.random.RandomState(self.seed * 50_000 + i if self.frozen else int(torch.randint(2**31 - 1, ())))

    def view(self, i, rng):
        tone = np.roll(self.tones[i], rng.randint(0, 4)) * np.float32(rng.uniform(0.7, 1.3))
        tone += 0.3 * rng.randn(SAMPLES)
        return tone

    def __getitem__(self, i):
        rng = self.random(i)
        return (torch.from_numpy(self.view(i, rng)), torch.from_numpy(self.view(i, rng))), i


class TwoViewsInPlace(TwoViews):
    """Changes the stored tone itself and hands it out, both times."""

    def view(self, i, rng):
        tone = self.tones[i]
        tone *= np.float32(rng.uniform(0.7, 1.3))
        tone += 0.3 * rng.randn(SAMPLES)
        return tone


@register.dataset
def pai3_tones():
    return Splits(TwoViews(2000, 1), TwoViews(512, 2, frozen=True), TwoViews(2048, 3, frozen=True))


@register.dataset
def pai3_tones_in_place():
    return Splits(TwoViewsInPlace(2000, 1), TwoViewsInPlace(512, 2, frozen=True), TwoViews(2048, 3, frozen=True))


@register.dataset
def pai3_towers():
    """A state of eight numbers seen by ten noisy sensors and by twelve switches that are on or off, or soft between."""
    mix = np.random.default_rng(77)
    to_sensor, to_switch = mix.standard_normal((8, 10)), mix.standard_normal((8, 12))

    def rows(count, seed):
        rng = np.random.default_rng(seed)
        state = rng.standard_normal((count, 8))
        sensor = np.tanh(state @ to_sensor / 3) * 1.5 + 0.1 * rng.standard_normal((count, 10))
        switch = 1 / (1 + np.exp(-state @ to_switch + 0.3 * rng.standard_normal((count, 12))))
        pair = {"sensor": torch.from_numpy(sensor.astype(np.float32)), "switch": torch.from_numpy(switch.astype(np.float32))}
        return {"x": pair}

    return Splits(rows(3000, 4), rows(512, 5), rows(2048, 6))


def encoder(width=32):
    return nn.Sequential(
        nn.Conv1d(1, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv1d(16, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 8, 64),
        nn.ReLU(),
        nn.Linear(64, width),
    )


@register.model
class pai3_stacked(nn.Module):
    """Embeddings of all first views, then of all second ones."""

    def __init__(self):
        super().__init__()
        self.encoder = encoder()

    def forward(self, x):
        first, second = x
        return self.encoder(torch.cat([first, second]).unsqueeze(1))


@register.model
class pai3_two_heads(nn.Module):
    """An image tower, a text tower and a learned sharpness, as of Radford et al. 2021."""

    def __init__(self):
        super().__init__()
        self.sensor = nn.Sequential(nn.Linear(10, 64), nn.GELU(), nn.Linear(64, 24))
        self.switch = nn.Sequential(nn.Linear(12, 64), nn.GELU(), nn.Linear(64, 24))
        self.log_sharpness = nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))

    def forward(self, x):
        a, b = F.normalize(self.sensor(x["sensor"]), dim=-1), F.normalize(self.switch(x["switch"]), dim=-1)
        return a, b, self.log_sharpness.exp()


@register.loss
class pai3_nt_xent(nn.Module):
    """Each view has to find the other one of its tone among all others of the batch; the diagonal is taken out."""

    def __init__(self, *, temperature: float = 0.2):
        super().__init__()
        self.temperature = temperature

    def wanted(self, n):
        """Columns of the partners: those behind the diagonal moved up by one."""
        return torch.cat([torch.arange(n) + n - 1, torch.arange(n)])

    def forward(self, out, y):
        z = F.normalize(out, dim=1)
        n = len(z) // 2
        similar = z @ z.T / self.temperature
        others = similar[~torch.eye(2 * n, dtype=torch.bool)].view(2 * n, 2 * n - 1)
        return F.cross_entropy(others, self.wanted(n))


@register.loss
class pai3_nt_xent_moved(pai3_nt_xent):
    """Does not see that columns moved up when the diagonal was taken out."""

    def wanted(self, n):
        return torch.cat([(torch.arange(n) + n) % (2 * n - 1), torch.arange(n)])


def parts_of_vicreg(out):
    a, b = out.chunk(2)
    pull = F.mse_loss(a, b)
    spread = [torch.sqrt(z.var(dim=0) + 1e-4) for z in (a, b)]
    coupling = 0.0
    for z in (a, b):
        z = z - z.mean(dim=0)
        cov = z.T @ z / (len(z) - 1)
        coupling = coupling + (cov.pow(2).sum() - cov.diagonal().pow(2).sum()) / z.shape[1]
    return pull, spread, coupling


@register.loss
def pai3_vicreg(out, y):
    """Bardes et al. 2022: pull views together, keep each unit's spread above one, couple no units."""
    pull, (one, two), coupling = parts_of_vicreg(out)
    return 25 * pull + 25 * (F.relu(1 - one).mean() + F.relu(1 - two).mean()) / 2 + coupling


@register.loss
def pai3_vicreg_hinge_reversed(out, y):
    """The hinge punishes spreads above one."""
    pull, (one, two), coupling = parts_of_vicreg(out)
    return 25 * pull + 25 * (F.relu(one - 1).mean() + F.relu(two - 1).mean()) / 2 + coupling


@register.loss
def pai3_spectral(out, y):
    """HaoChen et al. 2021: no normalisation, no temperature, below zero when it goes well."""
    a, b = out.chunk(2)
    n = len(a)
    product = a @ b.T
    return -2 * product.diagonal().mean() + (product.pow(2).sum() - product.diagonal().pow(2).sum()) / (n * (n - 1))


@register.loss
def pai3_symmetric(out, y):
    a, b, sharpness = out
    logits = sharpness * a @ b.t()
    labels = torch.arange(len(a))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.t(), labels)) / 2


@register.optimizer
class pai3_lars(torch.optim.Optimizer):
    """Layer-wise rates: a tensor's step is a share of its own size."""

    def __init__(self, named_parameters, *, lr: float = 1.0, momentum: float = 0.9, share: float = 0.01):
        super().__init__([p for _, p in named_parameters], {"lr": lr, "momentum": momentum, "share": share})

    def trust(self, size, slope):
        return size / (slope + 1e-9)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                ratio = group["share"] * self.trust(p.norm(), p.grad.norm()) if p.ndim > 1 else 0.02
                held = self.state[p].setdefault("held", torch.zeros_like(p))
                held.mul_(group["momentum"]).add_(p.grad, alpha=float(ratio))
                p.sub_(held, alpha=group["lr"])


@register.optimizer
class pai3_lars_upside_down(pai3_lars):
    """The quotient of the two norms is the wrong way up."""

    def trust(self, size, slope):
        return slope / (size + 1e-9)


@register.optimizer
def pai3_adam(named_parameters, *, lr: float = 2e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)
