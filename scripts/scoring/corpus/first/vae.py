"""Variational autoencoders of small pictures. See vae.yaml."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun import Splits, register

SIDE, LATENT = 8, 4


def draw(rows: int, seed: int) -> dict[str, Tensor]:
    """A soft blot at a random place, of random size, on pictures of 64 pixels in 0..1."""
    source = torch.Generator().manual_seed(seed)
    place, size = 1.5 + 4 * torch.rand(rows, 2, 1, 1, generator=source), 1 + 1.5 * torch.rand(rows, 1, 1, generator=source)
    line = torch.arange(SIDE).float()
    far = (line[None, :, None] - place[:, 0]).square() + (line[None, None, :] - place[:, 1]).square()
    picture = (-far / size.square()).exp() + 0.02 * torch.rand(rows, SIDE, SIDE, generator=source)
    return {"x": picture.clamp(0, 1).flatten(1)}


@register.dataset
def vae_blots() -> Splits:
    return Splits(draw(1000, 1), draw(300, 2), draw(1000, 3))


@register.model
class vae_net(nn.Module):
    def __init__(self, in_shape) -> None:
        super().__init__()
        pixels = in_shape[0]
        self.encode = nn.Sequential(nn.Linear(pixels, 96), nn.ReLU(), nn.Linear(96, 2 * LATENT))
        self.decode = nn.Sequential(nn.Linear(LATENT, 96), nn.ReLU(), nn.Linear(96, pixels))

    def drawn(self, mu: Tensor, logvar: Tensor) -> Tensor:
        return mu + torch.randn_like(mu) * (logvar / 2).exp()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        mu, logvar = self.encode(x).chunk(2, 1)
        return self.decode(self.drawn(mu, logvar)), mu, logvar, x


@register.model
class vae_net_cut(vae_net):
    """The draw is cut off from the encoder."""

    def drawn(self, mu: Tensor, logvar: Tensor) -> Tensor:
        return super().drawn(mu, logvar).detach()


@register.model
class vae_net_discrete(nn.Module):
    """Codes from a book, straight-through gradients: the nearest code stands for the encoder's output."""

    def __init__(self, in_shape) -> None:
        super().__init__()
        pixels = in_shape[0]
        self.encode = nn.Sequential(nn.Linear(pixels, 96), nn.ReLU(), nn.Linear(96, 8 * 4))
        self.book = nn.Embedding(16, 4)
        nn.init.normal_(self.book.weight, std=0.3)
        self.decode = nn.Sequential(nn.Linear(8 * 4, 96), nn.ReLU(), nn.Linear(96, pixels))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        given = self.encode(x).view(-1, 8, 4)
        code = self.book(torch.cdist(given.detach(), self.book.weight).argmin(-1))
        through = given + (code - given).detach()
        return self.decode(through.flatten(1)), given, code, x


def nats(out: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    back, mu, logvar, x = out
    likelihood = F.binary_cross_entropy_with_logits(back, x, reduction="none").sum(1).mean()
    divergence = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1).mean()
    return likelihood, divergence


@register.loss
def vae_loss(out, y):
    likelihood, divergence = nats(out)
    return likelihood + divergence, {"likelihood": likelihood, "divergence": divergence}


@register.loss
def vae_loss_turned(out, y):
    """The divergence is subtracted."""
    likelihood, divergence = nats(out)
    return likelihood - divergence, {"likelihood": likelihood, "divergence": divergence}


@register.loss
def vae_loss_uneven(out, y):
    """The likelihood is a mean over pixels, the divergence a sum over units."""
    likelihood, divergence = nats(out)
    return likelihood / SIDE**2 + divergence, {"likelihood": likelihood / SIDE**2, "divergence": divergence}


@register.loss
def vae_loss_codes(out, y) -> Tensor:
    back, given, code, x = out
    fit = F.binary_cross_entropy_with_logits(back, x, reduction="none").sum(1).mean()
    return fit + (given.detach() - code).square().sum((1, 2)).mean() + 0.25 * (given - code.detach()).square().sum((1, 2)).mean()


@register.optimizer
def vae_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)
