"""What is none of the usual kinds: several heads, times to an event. See other.yaml."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun import DataSpec, Splits, register

FEATURES = 8


def draw(rows: int, seed: int) -> dict[str, object]:
    """Each row has a class of three and a number."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, FEATURES, generator=source)
    kind = (x[:, 0] * x[:, 1] + 0.5 * x[:, 2] > 0).long() + (x[:, 3] > 0.5).long()
    return {"x": x, "y": {"kind": kind, "size": torch.sin(2 * x[:, 4]) + x[:, 5] * x[:, 0]}}


@register.dataset
def oth_two_answers() -> Splits:
    return Splits(draw(1000, 1), draw(300, 2), draw(1000, 3), spec=DataSpec((FEATURES,), (3,), "other"))


@register.dataset
def oth_lifetimes() -> Splits:
    """Times to an event, some of them cut off before it: y = (time, whether the event was seen)."""

    def rows(count: int, seed: int) -> dict[str, object]:
        source = torch.Generator().manual_seed(seed)
        x = torch.randn(count, FEATURES, generator=source)
        time = -torch.rand(count, generator=source).log() / (x[:, 0] - 0.7 * x[:, 1] + 0.5 * x[:, 2].abs()).exp()
        end = 2.0 * torch.rand(count, generator=source)
        return {"x": x, "y": (torch.minimum(time, end), time <= end)}

    return Splits(rows(1200, 1), rows(384, 2), rows(1024, 3), spec=DataSpec((FEATURES,), (), "other"))


@register.model
class oth_net(nn.Module):
    """Four residual layers, then a head for each answer."""

    def __init__(self) -> None:
        super().__init__()
        self.inward = nn.Linear(FEATURES, 48)
        self.layers = nn.ModuleList(nn.Linear(48, 48) for _ in range(4))
        self.kind, self.size = nn.Linear(48, 3), nn.Linear(48, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.inward(x)
        for layer in self.layers:
            x = x + F.relu(layer(x))
        return self.kind(x), self.size(x)[:, 0]


@register.model
class oth_net_listed(oth_net):
    """The layers stand in a plain list, where nobody finds their weights."""

    def __init__(self) -> None:
        super().__init__()
        del self.layers
        self.layers = [nn.Linear(48, 48) for _ in range(4)]


@register.model
class oth_net_made_anew(oth_net):
    """A layer is made in every forward."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = nn.Linear(48, 48)(F.relu(self.inward(x)))
        for layer in self.layers:
            x = x + F.relu(layer(x))
        return self.kind(x), self.size(x)[:, 0]


@register.model
class oth_net_risk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(FEATURES, 32), nn.Tanh(), nn.Linear(32, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[:, 0]


@register.loss
def oth_loss(out, y):
    kind, size = F.cross_entropy(out[0], y["kind"]), F.mse_loss(out[1], y["size"])
    return kind + size, {"kind": kind, "size": size}


@register.loss
def oth_loss_order(out, y) -> Tensor:
    """Cox's partial likelihood: each event against all rows of the batch that were still at risk."""
    time, seen = y
    order = time.argsort(descending=True)
    risk, seen = out[order], seen[order]
    return -((risk - risk.logcumsumexp(0)) * seen).sum() / seen.sum().clamp(min=1)


@register.optimizer
def oth_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)
