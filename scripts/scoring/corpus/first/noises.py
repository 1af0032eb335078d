"""Denoising and flows of points on a pinwheel, of heart beats and of masked letters. See noises.yaml."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset

from dlrun import Splits, register

STEPS = 400
BETA = torch.linspace(1e-4, 0.03, STEPS)
ALPHA_BAR = torch.cumprod(1 - BETA, 0)
LETTERS, PLACES = 6, 12
MASK = LETTERS


def pinwheel(count, seed):
    """Points on five bent arms."""
    rng = np.random.default_rng(seed)
    arm = rng.integers(0, 5, count)
    along, across = 1.4 + 0.5 * rng.standard_normal(count), 0.12 * rng.standard_normal(count)
    angle = arm * 2 * np.pi / 5 + 0.6 * np.exp(along - 1.4)
    points = np.stack([along * np.cos(angle) - across * np.sin(angle), along * np.sin(angle) + across * np.cos(angle)], 1)
    return torch.from_numpy(points.astype(np.float32))


class Straight(Dataset):
    """Points on the line from data to noise and the velocity along it. `unit` is what a whole way counts in the time told."""

    unit = 1.0

    def __init__(self, count, seed, frozen=False):
        self.points, self.frozen, self.seed = pinwheel(count, seed), frozen, seed

    def __len__(self):
        return len(self.points)

    def __getitem__(self, i):
        source = torch.Generator().manual_seed(self.seed * 100_000 + i) if self.frozen else None
        t, noise = torch.rand(1, generator=source), torch.randn(2, generator=source)
        point = self.points[i]
        return {"where": (1 - t) * point + t * noise, "when": t * self.unit}, noise - point


class StraightInMillis(Straight):
    unit = 1000.0


class Steps(Dataset):
    """Points noised by a whole number of steps; the noise is asked for."""

    def __init__(self, count, seed, frozen=False):
        self.points, self.frozen, self.seed = pinwheel(count, seed), frozen, seed

    def __len__(self):
        return len(self.points)

    def __getitem__(self, i):
        source = torch.Generator().manual_seed(self.seed * 100_000 + i) if self.frozen else None
        t = torch.randint(STEPS, (), generator=source)
        noise = torch.randn(2, generator=source)
        kept = ALPHA_BAR[t]
        return (kept.sqrt() * self.points[i] + (1 - kept).sqrt() * noise, t), noise


def three(kind):
    return Splits(kind(4000, 11), kind(500, 12, frozen=True), kind(2000, 13, frozen=True))


@register.dataset
def noi3_straight():
    return three(Straight)


@register.dataset
def noi3_straight_millis():
    return three(StraightInMillis)


@register.dataset
def noi3_steps():
    return three(Steps)


@register.dataset
def noi3_beats():
    """Short heart beats, a spike on a slow wave, clean; the network noises them."""

    def rows(count, seed):
        rng = np.random.default_rng(seed)
        axis = np.arange(20)
        place, height, phase = rng.uniform(6, 13, (count, 1)), rng.uniform(2, 4, (count, 1)), rng.uniform(0, 2 * np.pi, (count, 1))
        beats = height * np.exp(-(((axis - place) / 1.2) ** 2)) + 0.5 * np.sin(2 * np.pi * axis / 20 + phase) - 0.3
        return {"x": torch.from_numpy(beats.astype(np.float32))}

    return Splits(rows(3000, 21), rows(400, 22), rows(2000, 23))


class Masked(Dataset):
    """Strings of a Markov chain; each letter is hidden with a chance drawn for the row, hidden ones are asked for."""

    def __init__(self, count, seed, frozen=False):
        rng = np.random.default_rng(seed)
        self.rows = np.zeros((count, PLACES), dtype=np.int64)
        self.rows[:, 0] = rng.integers(0, LETTERS, count)
        for place in range(1, PLACES):
            hop = rng.choice([1, 2, 3], size=count, p=[0.75, 0.15, 0.1])
            self.rows[:, place] = (self.rows[:, place - 1] + hop) % LETTERS
        self.frozen, self.seed = frozen, seed

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        source = torch.Generator().manual_seed(self.seed * 100_000 + i) if self.frozen else None
        chance = 0.1 + 0.9 * torch.rand((), generator=source)
        hidden = torch.rand(PLACES, generator=source) < chance
        row = torch.from_numpy(self.rows[i])
        return {"letters": row.masked_fill(hidden, MASK), "chance": chance}, row.masked_fill(~hidden, -100)


@register.dataset
def noi3_letters():
    return three(Masked)


@register.model
class noi3_field(nn.Module):
    """Velocity at a place and a time, both simply put side by side."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(3, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 2)
        )

    def forward(self, x):
        return self.net(torch.cat([x["where"], x["when"]], dim=1))


def sinusoids(rows, width):
    place = torch.arange(rows)[:, None]
    rate = torch.exp(-torch.arange(0, width, 2) / width * np.log(1000.0))
    table = torch.zeros(rows, width)
    table[:, 0::2], table[:, 1::2] = torch.sin(place * rate), torch.cos(place * rate)
    return table


@register.model
class noi3_ddpm(nn.Module):
    """Noise of a point from a sinusoid table of the step."""

    def __init__(self):
        super().__init__()
        self.register_buffer("pe", sinusoids(1000, 64))
        self.step = nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 128))
        self.first, self.second, self.last = nn.Linear(2, 128), nn.Linear(128, 128), nn.Linear(128, 2)

    def encoded(self, t):
        return self.pe[t]

    def forward(self, x):
        noisy, t = x
        h = F.silu(self.first(noisy) + self.step(self.encoded(t)))
        return self.last(F.silu(self.second(h)))


@register.model
class noi3_ddpm_tutorial_encoding(noi3_ddpm):
    """Takes the rows of the table as a positional encoding of sequences does, by place along the first axis."""

    def encoded(self, t):
        return self.pe[: t.size(0)]


@register.model
class noi3_beat_net(nn.Module):
    """Noises beats by a linear schedule and says which noise it was."""

    def __init__(self, *, steps: int = 200):
        super().__init__()
        self.register_buffer("alpha_bar", torch.cumprod(1 - torch.linspace(1e-4, 0.04, steps), 0))
        self.step = nn.Embedding(steps, 32)
        self.net = nn.Sequential(nn.Linear(20 + 32, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU(), nn.Linear(128, 20))

    def forward(self, x):
        t = torch.randint(0, len(self.alpha_bar), (x.shape[0],))
        a = self.alpha_bar[t].unsqueeze(1)
        noise = torch.randn_like(x)
        predicted = self.net(torch.cat([a.sqrt() * x + (1 - a).sqrt() * noise, self.step(t)], 1))
        return predicted, noise


@register.model
class noi3_unmask(nn.Module):
    """Logits of letters from the string with gaps; hands the chance of a gap on to the loss."""

    def __init__(self):
        super().__init__()
        self.letter = nn.Embedding(LETTERS + 1, 16)
        self.rnn = nn.GRU(16, 32, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, LETTERS)

    def forward(self, x):
        hidden, _ = self.rnn(self.letter(x["letters"]))
        return self.head(hidden), x["chance"]


@register.loss
def noi3_mse(out, y):
    return F.mse_loss(out, y)


@register.loss
def noi3_square_after_sum(out, y):
    """Errors along x and y are added before they are squared, and may cancel."""
    return (out - y).sum(dim=1).pow(2).mean() / 2


@register.loss
def noi3_own_noise(out, y):
    predicted, noise = out
    return F.mse_loss(predicted, noise)


@register.loss
def noi3_gaps(out, y):
    """Cross-entropy of the gaps, each over the chance of one; full letters count as zero."""
    logits, chance = out
    each = F.cross_entropy(logits.transpose(1, 2), y, ignore_index=-100, reduction="none")
    return (each.sum(1) / chance).mean() / PLACES


class AveragedAdam(torch.optim.Adam):
    """Adam that keeps a running average of the weights, for sampling."""

    decay, swap = 0.999, False

    @torch.no_grad()
    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                mean = self.state[p].setdefault("average", p.clone())
                mean.lerp_(p, 1 - self.decay)
                if self.swap:
                    p.copy_(mean)
        return loss


class AveragedAdamSwapped(AveragedAdam):
    """Puts the average into the network after each step and never puts the weights back."""

    swap = True


@register.optimizer
def noi3_averaged(named_parameters, *, lr: float = 2e-3):
    return AveragedAdam([p for _, p in named_parameters], lr=lr)


@register.optimizer
def noi3_averaged_swapped(named_parameters, *, lr: float = 2e-3):
    return AveragedAdamSwapped([p for _, p in named_parameters], lr=lr)
