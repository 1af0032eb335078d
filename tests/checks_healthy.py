"""Parts of set-ups that are odd but right: what `tests/test_checks_healthy.py` runs every check on."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun import DataSpec, Splits
from dlrun.registry import PLUGINS


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(rows: int, classes: int = 4, dims: int = 8, seed: int = 2) -> tuple[Tensor, Tensor]:
    """Gaussian clouds about `classes` centres; other rows of the same clouds for another `seed`."""
    y = torch.arange(rows) % classes
    return torch.randn(classes, dims, generator=_draw(1))[y] * 1.5 + torch.randn(rows, dims, generator=_draw(seed)) * 0.7, y


def of_blobs(make: Any, rows: int = 256, spec: DataSpec | None = None, sampler: Any = None) -> Any:
    """A dataset part from a function of (x, y)."""

    def part() -> Splits:
        train, val, test = (make(*blobs(rows, seed=seed)) for seed in (2, 3, 4))
        return Splits(train, val, test, spec=spec, sampler=sampler)

    return part


def masked(x: Tensor, y: Tensor) -> Any:
    target = x[:, :2] * 0.5
    target[::7, 0] = float("nan")
    return x, target


DATASETS = {
    "clouds": of_blobs(lambda x, y: (x, y)),
    "eight_rows": of_blobs(lambda x, y: (x, y), rows=8),
    "several_labels": of_blobs(lambda x, y: (x, (x[:, :3] > 0).float())),
    "far_targets": of_blobs(lambda x, y: (x, 500 + 50 * torch.tanh(x[:, 0]))),
    "near_targets": of_blobs(lambda x, y: (x, x[:, 0] - x[:, 1])),
    "columns": of_blobs(lambda x, y: (x, (x[:, :1] - x[:, 1:2]))),
    "pixels": of_blobs(
        lambda x, y: (x[:, :1, None, None] + 0.3 * torch.ones(len(x), 1, 6, 6), (x[:, :1, None] > 0).long().expand(-1, 6, 6)),
        spec=DataSpec((1, 6, 6), (3, 6, 6), "other"),
    ),
    "named_inputs": of_blobs(lambda x, y: {"x": {"a": x[:, :4], "b": x[:, 4:]}, "y": y}),
    "two_views": of_blobs(lambda x, y: {"x": (x, x + 0.1)}, spec=DataSpec((8,), (8,), "contrastive")),
    "only_x": of_blobs(lambda x, y: {"x": x}, spec=DataSpec((8,), (8,), "vae")),
    "sampled": of_blobs(lambda x, y: (x, y), sampler=torch.utils.data.SubsetRandomSampler(range(200), generator=_draw())),
    "zero_one": of_blobs(lambda x, y: (x, (y % 2).float())),
    "gaps": of_blobs(masked),
    "counts": of_blobs(lambda x, y: (x, (20 + 5 * x[:, 0]).round().long().clamp(0)), spec=DataSpec((8,), (), "regression")),
}  # fmt: skip


class Net(nn.Module):
    """A small network from parts: body, head, and what is done with them."""

    def __init__(self, inputs: int, outputs: int, width: int = 32, drop: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(inputs, width), *([nn.BatchNorm1d(width)] if norm else []), nn.ReLU(), nn.Dropout(drop)]
        self.body = nn.Sequential(*layers, nn.Linear(width, width), nn.ReLU(), nn.Dropout(drop))
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))  # type: ignore[no-any-return]


class Zero(Net):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, drop=0.2)
        nn.init.zeros_(self.head.weight), nn.init.zeros_(self.head.bias)


class Frozen(Net):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, width=128, norm=True)
        self.body.requires_grad_(False)

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self.body.eval()  # a frozen batch norm stays in eval mode
        return self


class LowRank(Net):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, width=128)
        self.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(inputs, 8) / 3)
        self.up = nn.Parameter(torch.zeros(8, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 4 * x @ self.down @ self.up


class LogSoft(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).log_softmax(1)


class Tuple(Net):
    def forward(self, x: Tensor) -> Any:
        hidden = self.body(x)
        return self.head(hidden), hidden


class Named(Net):
    def __init__(self, outputs: int) -> None:
        super().__init__(8, outputs)

    def forward(self, x: Any) -> Tensor:
        return super().forward(torch.cat((x["a"], x["b"]), 1))


class MeanAndVariance(Net):
    def forward(self, x: Tensor) -> Any:
        mean, raw = super().forward(x).unbind(1)
        return mean, F.softplus(raw) + 1e-3


class Drawn(Net):
    """A network whose output is a distribution, no tensor."""

    def forward(self, x: Tensor) -> Any:
        return torch.distributions.Normal(super().forward(x)[:, 0], 1.0)


class Segment(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


class Views(Net):
    def forward(self, x: Any) -> Tensor:
        return F.normalize(super().forward(torch.cat(x)), dim=1)


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(8, 6), nn.Linear(3, 8)

    def forward(self, x: Tensor) -> Any:
        mu, logvar = self.encode(x).chunk(2, 1)
        return self.decode(mu + torch.randn_like(mu) * (logvar / 2).exp()), mu, logvar, x


class Tied(nn.Module):
    def __init__(self, vocab: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, 32)
        nn.init.normal_(self.embed.weight, std=0.1)
        self.mix, self.norm = nn.GRU(32, 32, batch_first=True), nn.LayerNorm(32)
        self.head = nn.Linear(32, vocab, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.mix(self.embed(x))[0]))  # type: ignore[no-any-return]


def last(shape: tuple[int, ...]) -> int:
    return shape[-1] if shape else 1


MODELS: dict[str, Any] = {
    "zero_head": lambda in_shape, out_shape: Zero(8, last(out_shape)),
    "frozen_body": lambda in_shape, out_shape: Frozen(8, last(out_shape)),
    "low_rank": lambda in_shape, out_shape: LowRank(8, last(out_shape)),
    "log_soft": lambda in_shape, out_shape: LogSoft(8, last(out_shape)),
    "tuple_out": lambda in_shape, out_shape: Tuple(8, last(out_shape)),
    "named_in": lambda out_shape: Named(last(out_shape)),
    "column": lambda: Net(8, 1),
    "three": lambda: Net(8, 3),
    "flat": lambda: nn.Sequential(Net(8, 1), nn.Flatten(0)),
    "heavy_dropout": lambda out_shape: Net(8, last(out_shape), width=128, drop=0.5),
    "batch_normed": lambda out_shape: Net(8, last(out_shape), norm=True),
    "mean_variance": lambda: MeanAndVariance(8, 2),
    "drawn": lambda: Drawn(8, 1),
    "segment": Segment,
    "views": lambda: Views(8, 16),
    "autoencoder": Autoencoder,
    "tied": lambda vocab: Tied(vocab),
}


def contrast(out: Tensor, y: Any) -> Tensor:
    """InfoNCE over both views, stacked."""
    half = len(out) // 2
    likeness = (out @ out.T / 0.5).masked_fill(torch.eye(len(out), dtype=torch.bool), -1e9)
    return F.cross_entropy(likeness, torch.arange(len(out)).roll(half))


def evidence(out: Any, y: Any) -> Tensor:
    back, mu, logvar, x = out
    return F.mse_loss(back, x) + 0.01 * (mu.square() + logvar.exp() - 1 - logvar).mean()


def gaussian(out: Any, y: Tensor) -> Tensor:
    return F.gaussian_nll_loss(out[0], y, out[1])


def quantiles(out: Tensor, y: Tensor) -> Tensor:
    gap = y[:, None].float() - out
    share = torch.tensor([0.1, 0.5, 0.9])
    return torch.maximum(share * gap, (share - 1) * gap).mean()


class uncertain(nn.Module):
    """Cross-entropy at a learned temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def forward(self, out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out * self.log_temperature.exp(), y)


LOSSES: dict[str, Any] = {
    "weighted": lambda out, y: F.cross_entropy(out, y, weight=torch.tensor([5.0, 1.0, 0.2, 1.0])),
    "summed_weights": lambda out, y: (F.cross_entropy(out, y, reduction="none") * torch.tensor([4.0, 1.0, 1.0, 1.0])[y]).mean(),
    "first_of_two": lambda out, y: F.cross_entropy(out[0], y) + 1e-3 * out[1].square().mean(),
    "negative_log": lambda out, y: F.nll_loss(out, y),
    "squeezes": lambda out, y: (out.squeeze(-1) - y).square().mean(),
    "over_classes": lambda out, y: F.cross_entropy(out, y),
    "focal": lambda out, y: ((1 - (p := -F.cross_entropy(out, y, reduction="none")).exp()) ** 2 * -p).mean(),
    "hinge": lambda out, y: F.multi_margin_loss(out, y),
    "skips_gaps": lambda out, y: (out[:, :2] - y)[torch.isfinite(y)].square().mean(),
    "log_density": lambda out, y: -out.log_prob(y).mean(),
    "correlation": lambda out, y: -F.cosine_similarity(out.squeeze(-1) - out.mean(), y - y.mean(), dim=0),
    "contrast": contrast,
    "evidence": evidence,
    "gaussian": gaussian,
    "quantiles": quantiles,
    "uncertain": uncertain,
}


class remembers:
    """Sign descent with a memory: no optimizer of torch's."""

    def __init__(self, named_parameters: Any, *, lr: float = 0.003) -> None:
        self.param_groups = [{"params": [p for _, p in named_parameters], "lr": lr}]
        self.memory = [torch.zeros_like(p) for p in self.param_groups[0]["params"]]  # type: ignore[attr-defined]

    def zero_grad(self) -> None:
        for p in self.param_groups[0]["params"]:  # type: ignore[attr-defined]
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for p, m in zip(self.param_groups[0]["params"], self.memory, strict=True):  # type: ignore[call-overload]
            if p.grad is not None:
                m.mul_(0.9).add_(p.grad)
                p.sub_(self.param_groups[0]["lr"] * m.sign())

    def state_dict(self) -> dict[str, Any]:
        return {"memory": self.memory}

    def load_state_dict(self, state: Any) -> None:
        self.memory = state["memory"]


def slow_start(step: int, steps: int) -> float:
    return min(1.0, step / 400)


def one_cycle(optimizer: Any, steps: int) -> Any:
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.003, total_steps=steps)


PARTS = {"dataset": DATASETS, "model": MODELS, "loss": LOSSES, "optimizer": {"remembers": remembers}}
PARTS["schedule"] = {"slow_start": slow_start, "one_cycle": one_cycle}


def add() -> None:
    """Put the parts where plugins stand."""
    for group, parts in PARTS.items():
        for name, part in parts.items():
            PLUGINS[group][name] = part
