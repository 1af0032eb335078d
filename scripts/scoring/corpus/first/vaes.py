"""Variational autoencoders of tide curves (Gaussian decoder) and of bar pictures (Bernoulli decoder). See vaes.yaml."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal
from torch.utils.data import Dataset

from dlrun import Splits, register

POINTS, CODES = 24, 6


def curves(rows: int, seed: int) -> Tensor:
    """Two superposed tides with a trend, [rows, 24], about unit variance."""
    g = torch.Generator().manual_seed(seed)
    hours = torch.linspace(0, 2, POINTS)[None]
    size, phase = 0.5 + torch.rand(rows, 2, generator=g), 6.283 * torch.rand(rows, 2, generator=g)
    trend = torch.randn(rows, 1, generator=g)
    moon = size[:, :1] * torch.sin(3.1416 * hours + phase[:, :1])
    sun = 0.6 * size[:, 1:] * torch.sin(6.2832 * hours + phase[:, 1:])
    return moon + sun + 0.4 * trend * (hours - 1) + 0.1 * torch.randn(rows, POINTS, generator=g)


class Tides(Dataset):
    """One curve an item, which is its own target."""

    def __init__(self, rows: int, seed: int) -> None:
        self.rows = curves(rows, seed)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.rows[index], self.rows[index]


@register.dataset
def vae2_tides() -> Splits:
    return Splits(Tides(1500, 1), Tides(400, 2), Tides(1000, 3))


def bars(rows: int, seed: int) -> dict[str, Tensor]:
    """8x8 black and white pictures of a few horizontal and vertical bars, one pixel in fifty flipped."""
    g = torch.Generator().manual_seed(seed)
    across, down = torch.rand(rows, 8, 1, generator=g) < 0.2, torch.rand(rows, 1, 8, generator=g) < 0.2
    flipped = torch.rand(rows, 8, 8, generator=g) < 0.02
    picture = ((across | down) ^ flipped).float()[:, None]
    return {"x": picture, "y": picture}


@register.dataset
def vae2_bars() -> Splits:
    return Splits(bars(3000, 1), bars(500, 2), bars(1000, 3))


@register.model
class vae2_tide_net(nn.Module):
    """Plain encoder and decoder with one hidden layer each."""

    def __init__(self, *, codes: int = CODES) -> None:
        super().__init__()
        self.codes = codes
        self.enc = nn.Sequential(nn.Linear(POINTS, 64), nn.ReLU())
        self.fc_mu, self.fc_logvar = nn.Linear(64, codes), nn.Linear(64, codes)
        self.dec = nn.Sequential(nn.Linear(codes, 64), nn.ReLU(), nn.Linear(64, POINTS))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.enc(x)
        return self.fc_mu(h), self.fc_logvar(h)

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        mu, logvar = self.encode(x)
        return self.dec(self.reparameterize(mu, logvar)), mu, logvar


@register.model
class vae2_tide_net_sample(vae2_tide_net):
    """Draws with `sample`, which gives no gradient, not with `rsample`."""

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        return Normal(mu, torch.exp(0.5 * logvar)).sample()


@register.model
class vae2_tide_net_relu_codes(vae2_tide_net):
    """The activation of the hidden layers stands behind mean and log variance as well."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.enc(x)
        return F.relu(self.fc_mu(h)), F.relu(self.fc_logvar(h))


@register.model
class vae2_tide_net_view(vae2_tide_net):
    """Means are laid out as [codes, rows] with view and then turned, which mixes the rows of a batch."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = super().encode(x)
        return mu.reshape(self.codes, len(x)).t(), logvar


@register.model
class vae2_tide_net_spread(vae2_tide_net):
    """The decoder has one learned noise level, the fourth output."""

    def __init__(self) -> None:
        super().__init__()
        self.log_spread = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (*super().forward(x), self.log_spread.expand(len(x), 1))


@register.model
class vae2_tide_net_codebook(nn.Module):
    """Vector quantisation: four small codebooks, straight-through gradients."""

    def __init__(self, *, entries: int = 16) -> None:
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(POINTS, 64), nn.ReLU(), nn.Linear(64, 8))
        self.dec = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, POINTS))
        self.book = nn.Parameter(0.5 * torch.randn(4, entries, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        z = self.enc(x).view(-1, 4, 2)
        nearest = (z[:, :, None] - self.book).square().sum(-1).argmin(-1)
        chosen = self.book[torch.arange(4), nearest]
        through = z + (chosen - z).detach()
        return self.dec(through.flatten(1)), z, chosen


@register.model
class vae2_bar_net(nn.Module):
    """Convolutions down to 8 codes and back up to logits of pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 12, 3, 2, 1), nn.ELU(), nn.Conv2d(12, 16, 3, 2, 1), nn.ELU(), nn.Flatten())
        self.head = nn.Linear(64, 32)
        self.up = nn.Sequential(nn.Linear(16, 96), nn.ELU(), nn.Linear(96, 64))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        mu, logvar = self.head(self.down(x)).chunk(2, dim=1)
        z = Normal(mu, (0.5 * logvar).exp()).rsample() if self.training else mu
        return self.pixels(z), mu, logvar

    def pixels(self, z: Tensor) -> Tensor:
        return self.up(z).view(-1, 1, 8, 8)


@register.model
class vae2_bar_net_sigmoid(vae2_bar_net):
    """Pixels are squashed by the decoder although the loss squashes them itself."""

    def pixels(self, z: Tensor) -> Tensor:
        return torch.sigmoid(super().pixels(z))


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """To the standard normal, every code by itself."""
    return -0.5 * (1 + logvar - mu.pow(2) - logvar.exp())


@register.loss
def vae2_elbo(out, y, *, beta: float = 1.0) -> Tensor:
    recon, mu, logvar = out
    return 2 * (recon - y).pow(2).sum(1).mean() + beta * kl(mu, logvar).sum(1).mean()


@register.loss
def vae2_elbo_mean_and_sum(out, y) -> Tensor:
    """Reconstruction is a mean over everything, the divergence a sum over everything."""
    recon, mu, logvar = out
    return F.mse_loss(recon, y) + kl(mu, logvar).sum()


@register.loss
def vae2_elbo_sign(out, y) -> Tensor:
    """A sign is lost on the way from the paper's lower bound to a loss."""
    recon, mu, logvar = out
    return 2 * (recon - y).pow(2).sum(1).mean() - kl(mu, logvar).sum(1).mean()


@register.loss
def vae2_free_bits(out, y, *, free: float = 0.3) -> Tensor:
    """The first bits of every code cost nothing."""
    recon, mu, logvar = out
    return 2 * (recon - y).pow(2).sum(1).mean() + kl(mu, logvar).mean(0).clamp(min=free).sum()


@register.loss
def vae2_likelihood(out, y) -> Tensor:
    """The full negative log likelihood under the learned noise level."""
    recon, mu, logvar, log_spread = out
    nats = 0.5 * ((recon - y) / log_spread.exp()).pow(2) + log_spread + 0.5 * math.log(2 * math.pi)
    return nats.sum(1).mean() + kl(mu, logvar).sum(1).mean()


def rbf(a: Tensor, b: Tensor) -> Tensor:
    return torch.exp(-torch.cdist(a, b).pow(2) / (2 * a.shape[1])).mean()


@register.loss
class vae2_mmd(nn.Module):
    """Codes of a whole batch are pulled to the prior by a kernel distance; no divergence of single rows."""

    def forward(self, out, y) -> Tensor:
        recon, mu, logvar = out
        codes = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        prior = torch.randn_like(mu)
        return 2 * (recon - y).pow(2).sum(1).mean() + 20 * (rbf(codes, codes) + rbf(prior, prior) - 2 * rbf(codes, prior))


@register.loss
def vae2_codebook_loss(out, y) -> Tensor:
    recon, z, chosen = out
    return F.mse_loss(recon, y) + F.mse_loss(chosen, z.detach()) + 0.25 * F.mse_loss(z, chosen.detach())


@register.loss
def vae2_bernoulli(out, y) -> Tensor:
    recon, mu, logvar = out
    return F.binary_cross_entropy_with_logits(recon, y, reduction="sum") / len(y) + kl(mu, logvar).sum(1).mean()


@register.metric(best="min")
def vae2_miss(out, y) -> Tensor:
    """Root mean squared error of the reconstruction."""
    return (out - y).pow(2).mean().sqrt()


@register.metric(best="min")
def vae2_pixel_nats(out, y) -> Tensor:
    """Nats a picture of the reconstruction."""
    return F.binary_cross_entropy_with_logits(out, y, reduction="none").flatten(1).sum(1).mean()


@register.optimizer
def vae2_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


@register.optimizer
def vae2_adam_encoder(named_parameters, *, lr: float = 3e-3):
    """Encoder and heads only: the decoder's group was never added."""
    return torch.optim.Adam([p for name, p in named_parameters if "dec" not in name.split(".")], lr=lr)
