"""Denoising of short waves: noised by the dataset (x = noisy wave and time, y = noise) or by the network itself. See denoisers.yaml."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from dlrun import Splits, register

LENGTH, TIMES = 12, 200
BETAS = np.linspace(1e-4, 0.05, TIMES)
ALPHAS = 1.0 - BETAS
KEPT = np.cumprod(ALPHAS)


def waves(rows: int, seed: int) -> np.ndarray:
    """Sines of one of three frequencies with any phase, of unit variance."""
    rng = np.random.default_rng(seed)
    frequency, phase = rng.integers(1, 4, (rows, 1)), rng.uniform(0, 2 * np.pi, (rows, 1))
    return (np.sqrt(2) * np.sin(2 * np.pi * frequency * np.arange(LENGTH) / LENGTH + phase)).astype(np.float32)


class NoisedWaves(Dataset):
    """An item draws a time and noise: ({noisy, t}, noise). With `fixed`, the same ones whenever it is read."""

    def __init__(self, rows: int, seed: int, fixed: bool = False) -> None:
        self.clean, self.fixed, self.seed = waves(rows, seed), fixed, seed

    def __len__(self) -> int:
        return len(self.clean)

    def rng(self, index: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, index] if self.fixed else int(torch.randint(2**31, ())))

    def time(self, rng: np.random.Generator) -> int:
        return int(rng.integers(TIMES))

    def kept(self, t: int) -> float:
        return float(KEPT[t])

    def told(self, t: int, rng: np.random.Generator) -> int:
        return t

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = self.rng(index)
        t, noise = self.time(rng), rng.standard_normal(LENGTH).astype(np.float32)
        noisy = np.sqrt(self.kept(t)) * self.clean[index] + np.sqrt(1 - self.kept(t)) * noise
        told = np.float32(self.told(t, rng) / TIMES)
        return {"x": {"noisy": torch.from_numpy(noisy.astype(np.float32)), "t": torch.tensor(told)}, "y": torch.from_numpy(noise)}


class SameSeedWaves(NoisedWaves):
    """A generator is made anew in every call, always from the same seed."""

    def rng(self, index: int) -> np.random.Generator:
        return np.random.default_rng(0)


class OtherTimeWaves(NoisedWaves):
    """The time that the network is told is drawn once more."""

    def told(self, t: int, rng: np.random.Generator) -> int:
        return self.time(rng)


class EarlyWaves(NoisedWaves):
    """Times stop at a twentieth of the schedule."""

    def time(self, rng: np.random.Generator) -> int:
        return int(rng.integers(TIMES // 20))


class NotCumulatedWaves(NoisedWaves):
    """Noise is mixed in by the alphas of single steps, not by their product."""

    def kept(self, t: int) -> float:
        return float(ALPHAS[t])


def splits(kind: type[NoisedWaves]) -> Splits:
    """A fault of `kind` is in what is trained and chosen on; test is as it should be."""
    return Splits(kind(3000, 1), kind(500, 2, fixed=True), NoisedWaves(2000, 3, fixed=True))


@register.dataset
def dif2_noised() -> Splits:
    return splits(NoisedWaves)


@register.dataset
def dif2_noised_same_seed() -> Splits:
    return splits(SameSeedWaves)


@register.dataset
def dif2_noised_other_time() -> Splits:
    return splits(OtherTimeWaves)


@register.dataset
def dif2_noised_early() -> Splits:
    return splits(EarlyWaves)


@register.dataset
def dif2_noised_not_cumulated() -> Splits:
    return splits(NotCumulatedWaves)


@register.dataset
def dif2_clean() -> Splits:
    """Clean waves for networks that noise them themselves."""
    return Splits(*({"x": torch.from_numpy(waves(rows, seed))} for rows, seed in ((3000, 1), (500, 2), (4000, 3))))


class Film(nn.Module):
    """Two hidden layers, both shifted and scaled by the embedded time."""

    def __init__(self, inputs: int = LENGTH, width: int = 64) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2.0 ** torch.arange(5))
        self.time = nn.Sequential(nn.Linear(10, 32), nn.SiLU(), nn.Linear(32, 4 * width))
        self.into, self.mid, self.outof = nn.Linear(inputs, width), nn.Linear(width, width), nn.Linear(width, LENGTH)

    def forward(self, noisy: Tensor, t: Tensor) -> Tensor:
        angle = t[:, None] * self.frequencies
        a, b, c, d = self.time(torch.cat((angle.sin(), angle.cos()), 1)).chunk(4, 1)
        h = F.silu(self.into(noisy) * (1 + a) + b)
        return self.outof(F.silu(self.mid(h) * (1 + c) + d))


@register.model
class dif2_film(nn.Module):
    """Predicts the noise from a dict of noisy wave and time."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Film()

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return self.net(x["noisy"], x["t"])


@register.model
class dif2_film_channel(dif2_film):
    """Keeps the axis of a single channel that the target does not have."""

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return super().forward(x).unsqueeze(1)


@register.model
class dif2_film_no_grad(dif2_film):
    """All but the last layer runs under no_grad."""

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            angle = x["t"][:, None] * self.net.frequencies
            a, b, c, d = self.net.time(torch.cat((angle.sin(), angle.cos()), 1)).chunk(4, 1)
            h = F.silu(self.net.into(x["noisy"]) * (1 + a) + b)
            h = F.silu(self.net.mid(h) * (1 + c) + d)
        return self.net.outof(h)


@register.model
class dif2_velocity(nn.Module):
    """Cosine schedule in continuous time; the target is the velocity."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Film()

    def times(self, x: Tensor) -> Tensor:
        return torch.rand(len(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        t, noise = self.times(x), torch.randn_like(x)
        angle = t[:, None] * math.pi / 2
        noisy, velocity = angle.cos() * x + angle.sin() * noise, angle.cos() * noise - angle.sin() * x
        return self.net(noisy, t), velocity


@register.model
class dif2_velocity_spaced(dif2_velocity):
    """Times of a batch are spaced evenly behind one random offset, then shuffled."""

    def times(self, x: Tensor) -> Tensor:
        rows = len(x)
        return ((torch.arange(rows) / rows + torch.rand(())) % 1.0)[torch.randperm(rows)]


@register.model
class dif2_preconditioned(nn.Module):
    """Log-normal noise levels; input, skip and output are scaled by the level, the head starts at zero."""

    def __init__(self, *, spread: float = 1.0) -> None:
        super().__init__()
        self.spread, self.net = spread, Film()
        nn.init.zeros_(self.net.outof.weight)
        nn.init.zeros_(self.net.outof.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        sigma = (1.2 * torch.randn(len(x), 1) - 0.6).exp()
        noisy, total = x + sigma * torch.randn_like(x), sigma.square() + self.spread**2
        inner = self.net(noisy / total.sqrt(), sigma[:, 0].log() / 4)
        clean = self.spread**2 / total * noisy + sigma * self.spread / total.sqrt() * inner
        return clean, x, total / (sigma * self.spread).square()


@register.model
class dif2_clean_wave(nn.Module):
    """Predicts the clean wave; rows weigh by their signal-to-noise ratio, cut at five."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Film()
        self.register_buffer("kept", torch.tensor(KEPT, dtype=torch.float32))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        t = torch.randint(TIMES, (len(x),))
        kept = self.kept[t][:, None]
        noisy = kept.sqrt() * x + (1 - kept).sqrt() * torch.randn_like(x)
        return self.net(noisy, t / TIMES), x, (kept / (1 - kept)).clamp(max=5)


@register.loss
def dif2_square(out, y) -> Tensor:
    return ((out - y) ** 2).mean()


@register.loss
def dif2_pair(out, y) -> Tensor:
    return F.mse_loss(out[0], out[1])


@register.loss
def dif2_weighted(out, y) -> Tensor:
    guess, target, weight = out
    return (weight * (guess - target).square()).mean()


@register.metric(best="min")
def dif2_error(out, y) -> Tensor:
    return (out.reshape(y.shape) - y).square().mean()


@register.optimizer
def dif2_adamw(named_parameters, *, lr: float = 3e-3):
    return torch.optim.AdamW([p for _, p in named_parameters], lr=lr, weight_decay=1e-4)


@register.schedule
def dif2_decay(optimizer, steps) -> torch.optim.lr_scheduler.LRScheduler:
    """Down to a fifth at the end."""
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.2 ** (1 / steps))


@register.schedule
def dif2_decay_of_epochs(optimizer, steps) -> torch.optim.lr_scheduler.LRScheduler:
    """A factor meant for epochs, stepped after every batch."""
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
