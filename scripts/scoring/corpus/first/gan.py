"""Generator and critic in the plane: as two networks of task gan, and as one network with one loss. See gan.yaml."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun import DataSpec, Splits, register


def draw(rows: int, seed: int) -> dict[str, Tensor]:
    """A ring of radius 1.5."""
    source = torch.Generator().manual_seed(seed)
    angle = 6.283 * torch.rand(rows, generator=source)
    ring = torch.stack((angle.cos(), angle.sin()), 1)
    return {"x": 1.5 * ring + 0.08 * torch.randn(rows, 2, generator=source)}


@register.dataset
def gan_circle() -> Splits:
    return Splits(draw(2000, 1), draw(500, 2), draw(500, 3), spec=DataSpec((2,), (2,), "gan"))


def stack(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, outputs))


@register.model
class gan_maker(nn.Module):
    def __init__(self, in_shape, out_shape) -> None:
        super().__init__()
        self.net = stack(in_shape[0], out_shape[0])

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)


@register.model
class gan_maker_cut(gan_maker):
    """Samples are cut off from the generator."""

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z).detach().requires_grad_()


@register.model
class gan_judge(nn.Module):
    def __init__(self, in_shape) -> None:
        super().__init__()
        self.net = stack(in_shape[0], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[:, 0]


class Reverse(torch.autograd.Function):
    """The value as it is, the gradient turned round."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


@register.model
class gan_both(nn.Module):
    """Generator and critic in one: gives samples and the critic's scores of data and samples; gradients turn round between the two."""

    def __init__(self) -> None:
        super().__init__()
        self.make, self.judge = stack(4, 2), stack(2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        made = self.make(torch.randn(len(x), 4))
        return made, self.judge(x)[:, 0], self.judge(Reverse.apply(made))[:, 0], x


@register.loss
def gan_loss_both(out, y) -> Tensor:
    return F.softplus(-out[1]).mean() + F.softplus(out[2]).mean() + 0.05 * (out[1].square() + out[2].square()).mean()


@register.metric(best="min", batches=False)
def gan_far(out, y):
    """Mean distance of samples from the ring of radius 1.5, plus how unevenly they lie around it."""
    return (out.norm(dim=1) - 1.5).abs().mean() + (out / out.norm(dim=1, keepdim=True)).mean(0).norm()


@register.optimizer
def gan_adam(named_parameters, *, lr: float = 2e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr, betas=(0.5, 0.9))
