"""Classification of table rows: set-ups that are right, odd but right, or carry one fault each. See classification.yaml."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun import Splits, register

CLASSES, FEATURES = 6, 8


def draw(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Three clouds a class, so that no straight line parts the classes; they overlap a little."""
    centres = torch.randn(3 * CLASSES, FEATURES, generator=torch.Generator().manual_seed(0))
    source = torch.Generator().manual_seed(seed)
    cloud = torch.randint(3 * CLASSES, (rows,), generator=source)
    return centres[cloud] + 0.55 * torch.randn(rows, FEATURES, generator=source), cloud % CLASSES


@register.dataset
def cls_table(*, train: int = 900) -> Splits:
    return Splits(draw(train, 1), draw(300, 2), draw(1500, 3))


@register.dataset
def cls_table_shifted() -> Splits:
    """The label of each row is that of the row before it."""
    train, val, test = (draw(rows, seed) for rows, seed in ((900, 1), (300, 2), (1500, 3)))
    return Splits((train[0], train[1].roll(1)), (val[0], val[1].roll(1)), (test[0], test[1].roll(1)))


@register.dataset
def cls_table_val_seen() -> Splits:
    """Validation rows were taken out of train without taking them away there."""
    x, y = draw(900, 1)
    return Splits((x, y), (x[:300], y[:300]), draw(1500, 3))


def with_label(rows: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    x, y = rows
    return torch.cat((x[:, :-1], y[:, None].float()), 1), y


@register.dataset
def cls_table_label_inside() -> Splits:
    """The last column of train and val is the label, which nobody knows of new rows."""
    x, y = draw(1500, 3)
    return Splits(with_label(draw(900, 1)), with_label(draw(300, 2)), (torch.cat((x[:, :-1], torch.zeros(len(x), 1)), 1), y))


@register.dataset
def cls_table_raw_column() -> Splits:
    """One column, which tells nothing, is in thousands beside columns of order one."""

    def raw(rows: int, seed: int) -> tuple[Tensor, Tensor]:
        x, y = draw(rows, seed)
        income = 3000 * torch.randn(rows, 1, generator=torch.Generator().manual_seed(seed + 50)) + 20000
        return torch.cat((x[:, :-1], income), 1), y

    return Splits(raw(900, 1), raw(300, 2), raw(1500, 3))


@register.dataset
def cls_categories() -> Splits:
    """Three categorical columns, one-hot, with many equal rows, and a label that is wrong for a quarter of them."""
    table = torch.randint(3, (4, 4, 4), generator=torch.Generator().manual_seed(0))

    def rows(count: int, seed: int) -> tuple[Tensor, Tensor]:
        source = torch.Generator().manual_seed(seed)
        code = torch.randint(4, (count, 3), generator=source)
        noisy = torch.rand(count, generator=source) < 0.25
        y = torch.where(noisy, torch.randint(3, (count,), generator=source), table[code[:, 0], code[:, 1], code[:, 2]])
        return F.one_hot(code, 4).flatten(1).float(), y

    return Splits(rows(1200, 1), rows(400, 2), rows(1500, 3))


@register.dataset
def cls_few_shot() -> Splits:
    """Four rows a class of five, forty features."""
    centres = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))

    def rows(count: int, seed: int) -> tuple[Tensor, Tensor]:
        y = torch.arange(count) % 5
        return centres[y] + 1.2 * torch.randn(count, 40, generator=torch.Generator().manual_seed(seed)), y

    return Splits(rows(20, 1), rows(10, 2), rows(1000, 3))


@register.dataset
def cls_parity() -> Splits:
    """The label is whether an odd number of three signs is positive; seven other columns tell nothing."""

    def rows(count: int, seed: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(count, 10, generator=torch.Generator().manual_seed(seed))
        return x, (x[:, :3] > 0).sum(1) % 2

    return Splits(rows(3000, 1), rows(500, 2), rows(1500, 3))


def stack(inputs: int, outputs: int, width: int = 64) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))


@register.model
def cls_net(in_shape, out_shape, *, width: int = 64) -> nn.Module:
    return stack(in_shape[0], out_shape[0], width)


@register.model
def cls_net_softmax(in_shape, out_shape) -> nn.Module:
    return nn.Sequential(*stack(in_shape[0], out_shape[0]), nn.Softmax(dim=1))


@register.model
def cls_net_constant(in_shape, out_shape) -> nn.Module:
    net = stack(in_shape[0], out_shape[0])
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.05)
    return net


@register.model
class cls_net_normed(nn.Module):
    def __init__(self, in_shape, out_shape) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(in_shape[0], 64), nn.Linear(64, 64), nn.Linear(64, out_shape[0])
        self.norms = nn.ModuleList(nn.LayerNorm(64) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norms[0](self.first(x)))
        return self.head(F.gelu(self.norms[1](self.second(x))))


@register.model
class cls_net_random_features(nn.Module):
    """Random cosine features that are never trained, and a linear readout."""

    def __init__(self, in_shape, out_shape) -> None:
        super().__init__()
        self.features, self.head = nn.Linear(in_shape[0], 400), nn.Linear(400, out_shape[0])
        self.features.requires_grad_(False)
        nn.init.normal_(self.features.weight, std=0.5)
        nn.init.uniform_(self.features.bias, 0, 6.283)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cos(self.features(x)))


@register.model
class cls_net_drawn(nn.Module):
    """Dropout that stays on in evaluation, on purpose: predictions are averaged over draws."""

    def __init__(self, in_shape, out_shape) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(in_shape[0], 128), nn.Linear(128, out_shape[0])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(F.relu(self.first(x)), 0.2, training=True))


@register.model
class cls_net_experts(nn.Module):
    """Each row goes to one of eight experts, so that a batch may leave some of them out."""

    def __init__(self, in_shape, out_shape) -> None:
        super().__init__()
        self.gate = nn.Linear(in_shape[0], 8)
        self.experts = nn.ModuleList(stack(in_shape[0], out_shape[0], 24) for _ in range(8))

    def forward(self, x: Tensor) -> Tensor:
        share, chosen = self.gate(x).softmax(1).max(1)
        out = x.new_zeros(len(x), self.experts[0][-1].out_features)
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).nonzero()[:, 0]
            if len(rows):
                out = out.index_copy(0, rows, share[rows, None] * expert(x[rows]))
        return out


@register.model
class cls_net_repeated(nn.Module):
    """One layer used eight times over."""

    def __init__(self, in_shape, out_shape) -> None:
        super().__init__()
        self.inject, self.step, self.norm = nn.Linear(in_shape[0], 64), nn.Linear(64, 64), nn.LayerNorm(64)
        self.head = nn.Linear(64, out_shape[0])

    def forward(self, x: Tensor) -> Tensor:
        given = self.inject(x)
        state = torch.zeros_like(given)
        for _ in range(8):
            state = torch.tanh(self.norm(self.step(state) + given))
        return self.head(state)


@register.loss
def cls_loss(out, y) -> Tensor:
    return F.cross_entropy(out, y)


@register.optimizer
def cls_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


@register.optimizer
def cls_adam_head(named_parameters, *, lr: float = 3e-3):
    """Only the last layer was handed over."""
    return torch.optim.Adam([p for _, p in named_parameters][-2:], lr=lr)


class Descent:
    """Gradient descent with momentum, written by hand."""

    def __init__(self, named_parameters, *, lr: float = 0.05, momentum: float = 0.9) -> None:
        self.param_groups = [{"params": [p for _, p in named_parameters], "lr": lr, "momentum": momentum}]
        self.velocity = [torch.zeros_like(p) for p in self.param_groups[0]["params"]]

    @torch.no_grad()
    def step(self) -> None:
        group = self.param_groups[0]
        for p, v in zip(group["params"], self.velocity):
            if p.grad is not None:
                v.mul_(group["momentum"]).add_(p.grad)
                p.sub_(group["lr"] * v)

    def zero_grad(self) -> None:
        for p in self.param_groups[0]["params"]:
            p.grad = None

    def state_dict(self):
        return {"velocity": self.velocity}

    def load_state_dict(self, state) -> None:
        self.velocity = state["velocity"]


@register.optimizer
class cls_descent(Descent):
    pass


@register.optimizer
class cls_descent_piling_up(Descent):
    def zero_grad(self) -> None:
        """Forgotten: gradients of all batches so far add up."""


@register.optimizer
class cls_signs(Descent):
    """The sign of the gradient alone sets the direction; nothing is remembered."""

    def __init__(self, named_parameters, *, lr: float = 0.002) -> None:
        self.param_groups = [{"params": [p for _, p in named_parameters], "lr": lr}]
        self.velocity = []

    @torch.no_grad()
    def step(self) -> None:
        for p in self.param_groups[0]["params"]:
            if p.grad is not None:
                p.sub_(self.param_groups[0]["lr"] * p.grad.sign())


@register.schedule
def cls_long_warm_up(step, steps) -> float:
    return min(1.0, step / (0.6 * steps))


@register.schedule
def cls_cut_each_step(optimizer, steps):
    """Meant to cut the rate to a tenth every epoch, stepped every batch."""
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.1)


@register.schedule
def cls_restarts(optimizer, steps):
    return torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=max(1, steps // 5))
