"""One or several yes-or-no labels a row. See binary.yaml."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun import Splits, register

FEATURES = 6


def draw(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inside or outside of a bent shell, with some noise on the border."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, FEATURES, generator=source)
    inside = x[:, :3].square().sum(1) + x[:, 3] * x[:, 4] < 2.2 + 0.3 * torch.randn(rows, generator=source)
    return x, inside.float()


def three(make) -> Splits:
    return Splits(*(make(*draw(rows, seed)) for rows, seed in ((1000, 1), (300, 2), (1500, 3))))


@register.dataset
def bin_shell() -> Splits:
    return three(lambda x, y: (x, y))


@register.dataset
def bin_shell_signs() -> Splits:
    """Labels are -1 and 1, as for a margin loss."""
    return three(lambda x, y: (x, 2 * y - 1))


@register.dataset
def bin_rare() -> Splits:
    """Three rows in a hundred are positive."""

    def rare(rows: int, seed: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(rows, FEATURES, generator=torch.Generator().manual_seed(seed))
        return x, (x[:, 0] + x[:, 1] + 0.3 * x[:, 2] > 2.8).float()

    return Splits(rare(3000, 1), rare(1000, 2), rare(3000, 3))


def tags(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    given = torch.stack((x[:, 0] > 0, x[:, 1] * x[:, 2] > 0, y > 0, x[:, 3].abs() > 1, x[:, 4] + x[:, 5] > 0.5), 1)
    return x, given.float()


@register.dataset
def bin_tags() -> Splits:
    """Five labels a row, about half of which hold."""
    return three(tags)


def stack(outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(FEATURES, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, outputs))


class Last(nn.Module):
    """The one output of a network, without its axis."""

    def __init__(self, *after: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(*stack(1), *after)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[:, 0]


@register.model
def bin_net() -> nn.Module:
    return Last()


@register.model
def bin_net_sigmoid() -> nn.Module:
    return Last(nn.Sigmoid())


@register.model
def bin_net_softmax() -> nn.Module:
    return Last(nn.Softmax(dim=1))


@register.model
def bin_net_tags() -> nn.Module:
    return stack(5)


@register.model
def bin_net_tags_softmax() -> nn.Module:
    return nn.Sequential(*stack(5), nn.Softmax(dim=1))


@register.loss
def bin_loss(out, y) -> Tensor:
    return F.binary_cross_entropy_with_logits(out, y)


@register.loss
def bin_loss_of_shares(out, y) -> Tensor:
    return F.binary_cross_entropy(out, y)


@register.loss
def bin_loss_weighted(out, y) -> Tensor:
    return F.binary_cross_entropy_with_logits(out, y, pos_weight=torch.tensor(30.0))


@register.loss
def bin_loss_hinge(out, y) -> Tensor:
    return F.relu(1 - y * out).mean()


@register.metric(best="max")
def bin_right(out, y):
    """Share of labels that the right side of 0 (of one half, for outputs within 0..1) gives."""
    return ((out > (0.5 if 0 <= out.min() and out.max() <= 1 else 0.0)) == (y > 0)).float().mean()


@register.metric(best="max", whole=True)
def bin_balanced(out, y):
    """Mean share of positives and of negatives that are found."""
    found = out > 0
    return (found[y > 0].float().mean() + (~found[y <= 0]).float().mean()) / 2


@register.optimizer
def bin_sgd(named_parameters, *, lr: float = 0.05):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, momentum=0.9)
