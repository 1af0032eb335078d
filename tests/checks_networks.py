"""Networks and data for tests of the checks about networks and gradients: sound ones to be broken in one place."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from checks_found import built
from checks_healthy import Net, blobs
from torch import Tensor, nn

from dlrun import DataSpec, Splits, registry
from dlrun.checks._finding import Finding
from dlrun.checks._folding import fold, in_order
from dlrun.checks._frame import Subject

STEPS, VOCAB = 12, 10
CHECKS = [
    "input_matters",
    "sample_independence",
    "causality",
    "receptive_field",
    "mode_switch",
    "graph_reach",
    "gradient_profile",
    "dead_units",
    "unit_symmetry",
    "init_scale",
    "shared_modules",
    "init_loss",
]


def found(*words: str) -> dict[str, Finding]:
    """What the checks about networks and gradients find, in causal order, folded: the others are left out, for they take longer."""
    parts = {name: registry.get("check", name) for name in CHECKS}
    subject = Subject(built(*words), patience=5.0)
    findings = [subject.judge(name, parts[name]) for name in in_order(parts)]
    fold(findings, parts)
    return {finding.check: finding for finding in findings}


def _draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def halved(data: Any, spec: DataSpec | None = None) -> Any:
    """A dataset part whose train split is the first half of the rows, val the second."""
    return lambda: Splits(_cut(data, slice(None, 128)), _cut(data, slice(128, None)), spec=spec)


def _cut(data: Any, rows: slice) -> Any:
    if isinstance(data, Tensor):
        return data[rows]
    return {key: _cut(value, rows) for key, value in data.items()} if isinstance(data, dict) else tuple(_cut(value, rows) for value in data)


def tokens(rows: int = 256, steps: int = STEPS + 1) -> Tensor:
    """Rows of tokens: each is the one before plus 1 or 3, modulo 10."""
    jumps = torch.where(torch.rand(rows, steps, generator=_draw(1)) < 0.8, 1, 3)
    return (torch.randint(VOCAB, (rows, 1), generator=_draw(2)) + jumps.cumsum(1)) % VOCAB


def series(rows: int = 256, steps: int = STEPS + 1, features: int = 3) -> Tensor:
    """Waves with noise, [rows, steps, features]."""
    phase = 6 * torch.rand(rows, 1, features, generator=_draw(3))
    return torch.sin(phase + 0.7 * torch.arange(steps)[None, :, None]) + 0.1 * torch.randn(rows, steps, features, generator=_draw(4))


def pictures(rows: int = 256, channels: int = 1, size: int = 12) -> tuple[Tensor, Tensor]:
    """Noise with a bright quarter that tells the class."""
    y = torch.arange(rows) % 4
    x = torch.randn(rows, channels, size, size, generator=_draw(5))
    half = size // 2
    for row in range(rows):
        down, across = half * (int(y[row]) // 2), half * (int(y[row]) % 2)
        x[row, :, down : down + half, across : across + half] += 1.5
    return x, y


_tokens, _series = tokens(), series()
_x, _y = blobs(256)
LM = DataSpec((STEPS,), (STEPS, VOCAB), "language_model", classes=VOCAB, vocab=VOCAB)
CLASSES = DataSpec((STEPS,), (2,), "classification", classes=2, vocab=VOCAB)
_masked = torch.where(torch.rand(_tokens[:, :-1].shape, generator=_draw(6)) < 0.3, _tokens[:, :-1], -100)
DATASETS = {
    "next_tokens": halved((_tokens[:, :-1], _tokens[:, 1:]), LM),
    "same_tokens": halved((_tokens[:, :-1], _tokens[:, :-1].clone()), LM),
    "gapped_tokens": halved((torch.where(_masked >= 0, 0, _tokens[:, :-1]), _masked), LM),
    "token_classes": halved((_tokens[:, :-1], (_tokens[:, 0] > 4).long()), CLASSES),
    "next_values": halved((_series[:, :-1], _series[:, 1:])),
    "series_classes": halved((_series[:, :-1], (_series.mean((1, 2)) > 0).long())),
    "long_series": halved((series(256, 200), (series(256, 200).mean((1, 2)) > 0).long())),
    "pictures": halved(pictures()),
    "colours": halved(pictures(channels=3)),
    "pairs": halved({"x": {"a": _x, "b": _x.roll(3, 1) + 0.3}, "y": _y}),
    "mirrored": halved((_x, _x.clone())),
}  # fmt: skip


class Deep(nn.Module):
    """An mlp of many layers: `block` makes the activation, `residual` adds each layer to what came in."""

    def __init__(
        self, depth: int, make: Any = nn.ReLU, width: int = 32, residual: bool = False, std: float | None = None, norm: bool = False
    ) -> None:
        super().__init__()
        self.first = nn.Linear(8, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) if norm else nn.Identity() for _ in range(depth))
        self.act, self.head, self.residual = make(), nn.Linear(width, 4), residual
        for layer in (self.first, *self.layers, self.head):
            if std is not None:
                nn.init.normal_(layer.weight, std=std), nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            y = self.act(norm(layer(x)))
            x = x + y if self.residual else y
        return self.head(x)  # type: ignore[no-any-return]


class Attends(nn.Module):
    """One block of attention over tokens; `mask` says which positions may be seen."""

    def __init__(self, mask: str = "right", batch_first: bool = True, pool: str = "", length: int = STEPS) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(VOCAB, 32), nn.Parameter(0.1 * torch.randn(length, 32))
        self.mix = nn.MultiheadAttention(32, 2, batch_first=batch_first)
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 2 if pool else VOCAB)
        self.kind, self.pool = mask, pool

    def mask(self, steps: int) -> Tensor | None:
        """True where a position may not be seen."""
        ones = torch.ones(steps, steps, dtype=torch.bool)
        seen = {
            "right": ones.triu(1),
            "late": ones.triu(2),
            "turned": ones.tril(-1),
            "none": None,
            "itself": ~torch.eye(steps, dtype=torch.bool),
        }
        return seen[self.kind]

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embed(x) + self.place[: x.shape[1]]
        rows = x.shape[1] if self.mix.batch_first else len(x)
        mixed = self.mix(hidden, hidden, hidden, attn_mask=self.mask(rows), need_weights=False)[0]
        hidden = self.norm(hidden + mixed)
        if self.pool:
            hidden = {"first": hidden[:, 0], "mean": hidden.mean(1), "last": hidden[:, -1]}[self.pool]
        return self.head(hidden)  # type: ignore[no-any-return]


class Recurs(nn.Module):
    """A recurrent network over tokens or values; `read` is what it reads out."""

    def __init__(self, outputs: int, features: int = 0, read: str = "all", make: Any = nn.GRU, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Linear(features, 32) if features else nn.Embedding(VOCAB, 32)
        self.mix = make(32, 32, **{"batch_first": True, **options})
        self.head, self.read = nn.Linear(32 * (2 if options.get("bidirectional") else 1), outputs), read

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.mix(self.embed(x))[0]
        hidden = {"all": hidden, "last": hidden[:, -1], "first": hidden[:, 0], "row": hidden[-1:].expand_as(hidden)[:, -1]}[self.read]
        return self.head(hidden)  # type: ignore[no-any-return]


class Sees(nn.Module):
    """A small convolutional network; `cut` is what it does with its input first."""

    def __init__(self, cut: Any = None, channels: int = 1, norm: bool = True, pool: Any = None) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16) if norm else nn.Identity(), nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.head, self.cut, self.pool = nn.Linear(16, 4), cut, pool

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.body(x if self.cut is None else self.cut(x))
        return self.head(hidden.mean((2, 3)) if self.pool is None else self.pool(hidden))  # type: ignore[no-any-return]


class Does(Net):
    """`Net` with `before`, `between` and `after` done to input, hidden values and outputs."""

    def __init__(self, before: Any = None, between: Any = None, after: Any = None, **options: Any) -> None:
        super().__init__(8, 4, **options)
        self.doing = [before, between, after]

    def forward(self, x: Tensor) -> Tensor:
        before, between, after = (step or (lambda value: value) for step in self.doing)
        return after(self.head(between(self.body(before(x)))))  # type: ignore[no-any-return]


class Mixture(nn.Module):
    """Two of eight experts a row, chosen by a router."""

    def __init__(self, experts: int = 8) -> None:
        super().__init__()
        self.router = nn.Linear(8, experts)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        weight, chosen = self.router(x).softmax(-1).topk(2)
        out = torch.zeros(len(x), 4)
        for number, expert in enumerate(self.experts):
            rows, slot = (chosen == number).nonzero(as_tuple=True)
            if len(rows):
                out = out.index_add(0, rows, weight[rows, slot, None] * expert(x[rows]))
        return out


def shifted_inside(out: Tensor, y: Tensor) -> Tensor:
    """The loss of a user who gives the tokens as targets and shifts them here."""
    return F.cross_entropy(out[:, :-1].flatten(0, 1), y[:, 1:].flatten())


def per_token(out: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(out.flatten(0, 1), y.flatten())


LOSSES = {"shifted_inside": shifted_inside, "per_token": per_token}
