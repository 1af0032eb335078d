"""Numbers as targets. See regression.yaml."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun import Splits, register

FEATURES = 6


def draw(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """A smooth function of six columns, between about -2 and 2."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, FEATURES, generator=source)
    y = torch.sin(2 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] - 0.4 * x[:, 3] + 0.05 * torch.randn(rows, generator=source)
    return x, y


def three(make) -> Splits:
    return Splits(*(make(*draw(rows, seed)) for rows, seed in ((1000, 1), (300, 2), (1000, 3))))


@register.dataset
def reg_smooth() -> Splits:
    return three(lambda x, y: (x, y))


@register.dataset
def reg_smooth_whole() -> Splits:
    """Targets went through an integer type."""
    return three(lambda x, y: (x, y.int().float()))


@register.dataset
def reg_counts() -> Splits:
    """Counts between 0 and some hundreds."""

    def counted(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        source = torch.Generator().manual_seed(len(x))
        return x, torch.poisson((2.5 + 0.9 * y).exp(), generator=source)

    return three(counted)


@register.dataset
def reg_angles() -> Splits:
    """Directions in the plane, as unit vectors."""

    def turned(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x, torch.stack((torch.cos(1.5 * y), torch.sin(1.5 * y)), 1)

    return three(turned)


@register.dataset
def reg_itself() -> Splits:
    """An autoencoder's data: y is x, twelve columns that vary in three directions."""
    mix = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))

    def rows(count: int, seed: int) -> tuple[Tensor, Tensor]:
        source = torch.Generator().manual_seed(seed)
        x = torch.randn(count, 3, generator=source) @ mix + 0.1 * torch.randn(count, 12, generator=source)
        return x, x

    return Splits(rows(1000, 1), rows(300, 2), rows(1000, 3))


@register.dataset
def reg_sets() -> Splits:
    """Seven things with four numbers each; y is the second number of the thing whose first is largest."""

    def rows(count: int, seed: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(count, 7, 4, generator=torch.Generator().manual_seed(seed))
        return x, x[torch.arange(count), x[..., 0].argmax(1), 1]

    return Splits(rows(1500, 1), rows(300, 2), rows(1000, 3))


@register.dataset
def reg_prices() -> Splits:
    """Prices of a skewed kind, mean about 300, in their own unit."""
    return three(lambda x, y: (x, 200 * (0.6 * y).exp()))


def stack(outputs: int = 1, inputs: int = FEATURES, width: int = 64) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, outputs))


@register.model
class reg_net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = stack()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[:, 0]


@register.model
def reg_net_column() -> nn.Module:
    return stack()


@register.model
class reg_net_positive(reg_net):
    """A rectifier after the last layer too."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


@register.model
class reg_net_chooses(nn.Module):
    """Attention over the things of a set, and the mean of their values under it."""

    axis = 1

    def __init__(self) -> None:
        super().__init__()
        self.score, self.value = (nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.score(x)[..., 0].softmax(self.axis)
        return (weight * self.value(x)[..., 0]).sum(1)


@register.model
class reg_net_chooses_rows(reg_net_chooses):
    """The softmax goes over the rows of a batch."""

    axis = 0


@register.model
class reg_net_log_rate(reg_net):
    pass


@register.model
def reg_net_directions() -> nn.Module:
    return Unit()


class Unit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = stack(2)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.net(x), dim=1)


@register.model
def reg_net_bottle() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 3), nn.Linear(3, 12))


@register.model
def reg_net_three() -> nn.Module:
    net = stack(3)
    nn.init.constant_(net[-1].bias, 200.0)
    return net


@register.loss
def reg_loss(out, y) -> Tensor:
    return F.mse_loss(out, y)


@register.loss
def reg_loss_by_hand(out, y) -> Tensor:
    return ((out.squeeze(-1) - y) ** 2).mean()


@register.loss
def reg_loss_spread(out, y) -> Tensor:
    """[B, 1] minus [B] is [B, B]."""
    return ((out - y) ** 2).mean()


@register.loss
def reg_loss_signed(out, y) -> Tensor:
    """The error itself, neither squared nor absolute."""
    return (out - y).mean()


@register.loss
def reg_loss_poisson(out, y) -> Tensor:
    return F.poisson_nll_loss(out, y, log_input=True)


@register.loss
def reg_loss_cosine(out, y) -> Tensor:
    return -(out * y).sum(1).mean()


@register.loss
def reg_loss_quantiles(out, y) -> Tensor:
    share = torch.tensor([0.1, 0.5, 0.9])
    gap = y[:, None] - out
    return torch.maximum(share * gap, (share - 1) * gap).mean()


@register.metric(best="min")
def reg_error(out, y):
    """Mean squared error, of a column too."""
    return (out.reshape(y.shape) - y).square().mean()


@register.optimizer
def reg_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.AdamW([p for _, p in named_parameters], lr=lr)
