"""Variational autoencoders of spectra with two lines and of pictures with two spots. See latents.yaml."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal
from torch.utils.data import Dataset

from dlrun import Splits, register

CHANNELS, LATENT = 24, 6


def two_lines(count, seed):
    """Clean spectra: two lines of any place and height, brought to about unit scale."""
    rng = np.random.default_rng(seed)
    axis = np.linspace(0, 1, CHANNELS)
    centre, height = rng.uniform(0.1, 0.9, (count, 2, 1)), rng.uniform(0.4, 1.0, (count, 2, 1))
    lines = (height * np.exp(-0.5 * ((axis - centre) / 0.07) ** 2)).sum(1)
    return ((lines - 0.25) / 0.33).astype(np.float32), rng


class SpectraOnDisk(Dataset):
    """Measured and clean spectra under names of files, paired by their place in two listings."""

    def __init__(self, count, seed, measured_order=sorted):
        clean, rng = two_lines(count, seed)
        self.clean = {f"clean_{i:05d}": clean[i] for i in range(count)}
        noisy = (clean + 0.3 * rng.standard_normal(clean.shape)).astype(np.float32)
        self.measured = {f"measured_{i}": noisy[i] for i in range(count)}
        self.inputs = measured_order(self.measured)
        self.targets = sorted(self.clean)

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, i):
        return torch.from_numpy(self.measured[self.inputs[i]]), torch.from_numpy(self.clean[self.targets[i]])


def by_number(names):
    return sorted(names, key=lambda name: int(name.split("_")[1]))


@register.dataset
def lat3_spectra():
    return Splits(SpectraOnDisk(2000, 1, by_number), SpectraOnDisk(400, 2, by_number), SpectraOnDisk(1000, 3, by_number))


@register.dataset
def lat3_spectra_sorted_as_text():
    """measured_10 comes before measured_2, clean_00002 does not."""
    return Splits(SpectraOnDisk(2000, 1), SpectraOnDisk(400, 2), SpectraOnDisk(1000, 3))


@register.dataset
def lat3_faint_spectra():
    """Spectra with a little noise, to be given back as they are."""

    def rows(count, seed):
        clean, rng = two_lines(count, seed)
        return torch.from_numpy((clean + 0.1 * rng.standard_normal(clean.shape)).astype(np.float32))

    parts = [rows(2000, 4), rows(400, 5), rows(1000, 6)]
    return Splits(*((part, part.clone()) for part in parts))


@register.dataset
def lat3_spots():
    """Grey pictures of 12 x 12 with two soft spots; the picture is input and target."""

    def rows(count, seed):
        rng = np.random.default_rng(seed)
        grid = np.stack(np.meshgrid(np.arange(12), np.arange(12), indexing="ij"))[None, None]
        where, size = rng.uniform(2, 9, (count, 2, 2, 1, 1)), rng.uniform(0.9, 1.8, (count, 2, 1, 1))
        spots = np.exp(-((grid - where) ** 2).sum(2) / (2 * size**2)).max(1)
        picture = torch.from_numpy(spots.astype(np.float32))[:, None]
        return picture, picture

    return Splits(rows(1500, 7), rows(300, 8), rows(1000, 9))


@register.model
class lat3_vae(nn.Module):
    """Plain: one hidden layer each way; draws in training, takes the mean in eval."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(CHANNELS, 96), nn.ReLU(), nn.Linear(96, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, 96), nn.ReLU(), nn.Linear(96, CHANNELS))

    def halves(self, h):
        return h.chunk(2, dim=1)

    def forward(self, x):
        mu, logvar = self.halves(self.encoder(x))
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar) if self.training else mu
        return self.decoder(z), mu, logvar


@register.model
class lat3_vae_viewed(lat3_vae):
    """The two halves are cut by a view that puts the halves first."""

    def halves(self, h):
        mu, logvar = h.view(2, -1, LATENT)
        return mu, logvar


@register.model
class lat3_vae_relu_heads(lat3_vae):
    """An activation stands behind the layer of the means and variances too."""

    def halves(self, h):
        return torch.relu(h).chunk(2, dim=1)


@register.model
class lat3_conv_vae(nn.Module):
    def __init__(self, *, latent: int = 8):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.fc_mu = nn.Linear(32 * 9, latent)
        self.fc_logvar = nn.Linear(32 * 9, latent)
        self.fc_decode = nn.Linear(latent, 32 * 9)
        self.up1 = nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1)
        self.up2 = nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1)

    def encode(self, x):
        h = F.relu(self.conv2(F.relu(self.conv1(x)))).flatten(1)
        return self.fc_mu(h), self.fc_logvar(h)

    def decode(self, z):
        h = F.relu(self.fc_decode(z)).view(-1, 32, 3, 3)
        return self.up2(F.relu(self.up1(h)))

    def forward(self, x):
        mu, logvar = self.encode(x)
        std = torch.exp(0.5 * logvar)
        z = mu + std * torch.randn_like(std)
        return self.decode(z), mu, logvar


@register.model
class lat3_many_draws(nn.Module):
    """Decodes several draws of a row; the width of the noise is learned as one number."""

    def __init__(self, *, draws: int = 8):
        super().__init__()
        self.draws = draws
        self.body = nn.Sequential(nn.Linear(CHANNELS, 96), nn.Tanh())
        self.mean, self.spread = nn.Linear(96, LATENT), nn.Linear(96, LATENT)
        self.decoder = nn.Sequential(nn.Linear(LATENT, 96), nn.Tanh(), nn.Linear(96, CHANNELS))
        self.log_sigma = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        h = self.body(x)
        mu, logvar = self.mean(h), self.spread(h)
        z = mu[:, None] + (logvar / 2).exp()[:, None] * torch.randn(len(x), self.draws, LATENT)
        return self.decoder(z), mu, logvar, z, self.log_sigma


@register.loss
def lat3_bound(out, y):
    """Squared error of a Gaussian of variance 0.1, plus the divergence."""
    recon, mu, logvar = out
    misfit = (recon - y).pow(2).sum(1).mean() / 0.2
    divergence = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()
    return misfit + divergence


@register.loss
def lat3_bound_mean_not_squared(out, y):
    """The mean of the divergence lacks its square."""
    recon, mu, logvar = out
    misfit = (recon - y).pow(2).sum(1).mean() / 0.2
    divergence = -0.5 * (1 + logvar - mu - logvar.exp()).sum(1).mean()
    return misfit + divergence


@register.loss
def lat3_elbo_bce(out, y):
    recon, mu, logvar = out
    bce = F.binary_cross_entropy_with_logits(recon, y, reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (bce + kld) / y.shape[0]


@register.loss
def lat3_importance_weighted(out, y):
    """Burda et al. 2016: minus the log of the mean weight over the draws of a row."""
    recon, mu, logvar, z, log_sigma = out
    log_x = Normal(recon, log_sigma.exp()).log_prob(y[:, None]).sum(2)
    log_prior = -0.5 * (z.pow(2) + math.log(2 * math.pi)).sum(2)
    log_q = Normal(mu[:, None], (logvar / 2).exp()[:, None]).log_prob(z).sum(2)
    return -((log_x + log_prior - log_q).logsumexp(1) - math.log(z.shape[1])).mean()


@register.optimizer
def lat3_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr)


@register.optimizer
def lat3_adam_betas_swapped(named_parameters, *, lr: float = 3e-3):
    """Betas in the wrong order."""
    return torch.optim.Adam([p for _, p in named_parameters], lr, (0.999, 0.9))
