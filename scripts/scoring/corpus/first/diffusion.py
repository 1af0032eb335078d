"""Denoising diffusion of points in the plane: the network draws times and noise itself. See diffusion.yaml."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun import Splits, register

TIMES = 100


def draw(rows: int, seed: int) -> dict[str, Tensor]:
    """Two bent arms, standardised."""
    source = torch.Generator().manual_seed(seed)
    angle = 3.1416 * torch.rand(rows, generator=source)
    side = torch.randint(2, (rows,), generator=source).float()
    x = torch.stack((torch.cos(angle) * (1 - 2 * side) + side, torch.sin(angle) * (1 - 2 * side) + 0.5 * side), 1)
    return {"x": (x - torch.tensor([0.5, 0.25])) / torch.tensor([0.87, 0.5]) + 0.05 * torch.randn(rows, 2, generator=source)}


@register.dataset
def dif_arms() -> Splits:
    return Splits(draw(1500, 1), draw(400, 2), draw(4000, 3))


@register.model
class dif_net(nn.Module):
    """Noises x at a random time and predicts the noise; gives (prediction, noise)."""

    def __init__(self, in_shape) -> None:
        super().__init__()
        self.register_buffer("kept", torch.cumprod(1 - torch.linspace(1e-4, 0.06, TIMES), 0))
        self.net = nn.Sequential(nn.Linear(in_shape[0] + 8, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, in_shape[0]))

    def clock(self, time: Tensor) -> Tensor:
        angle = (time / TIMES)[:, None] * torch.tensor([1.0, 2.0, 4.0, 8.0])
        return torch.cat((angle.sin(), angle.cos()), 1)

    def times(self, x: Tensor) -> Tensor:
        return torch.randint(TIMES, (len(x),))

    def target(self, noise: Tensor) -> Tensor:
        return noise

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        time, noise = self.times(x), torch.randn_like(x)
        kept = self.kept[time][:, None]
        noisy = kept.sqrt() * x + (1 - kept).sqrt() * noise
        return self.net(torch.cat((noisy, self.clock(time)), 1)), self.target(noise)


@register.model
class dif_net_other_noise(dif_net):
    """The target is drawn anew, not the noise that was added."""

    def target(self, noise: Tensor) -> Tensor:
        return torch.randn_like(noise)


@register.model
class dif_net_stopped_clock(dif_net):
    """Time is divided as an integer: the network is told 0 at every time."""

    def clock(self, time: Tensor) -> Tensor:
        return super().clock((time // TIMES) * TIMES)


@register.model
class dif_net_flow(nn.Module):
    """Flow matching: the straight way from noise to data is to be told, at a time between."""

    def __init__(self, in_shape) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(in_shape[0] + 1, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, in_shape[0]))
        nn.init.zeros_(self.net[-1].weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        time, noise = torch.rand(len(x), 1), torch.randn_like(x)
        return self.net(torch.cat(((1 - time) * noise + time * x, time), 1)), x - noise


@register.loss
def dif_loss(out, y) -> Tensor:
    return F.mse_loss(*out)


@register.optimizer
def dif_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)
