"""What tests of the checks of data share: splits of clouds and pictures to spoil, and one check asked of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from checks_found import built, plug
from checks_healthy import DataSpec, Splits, blobs
from torch import Tensor, nn

from dlrun import registry
from dlrun.checks._finding import Finding
from dlrun.checks._frame import Subject

Parts = dict[str, list[Any]]


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clouds() -> tuple[Tensor, Tensor]:
    x, y = blobs(900)
    order = torch.randperm(900, generator=draw(3))
    return x[order], y[order]


def smooth(classes: int = 6) -> tuple[Tensor, Tensor]:
    """Smooth colour pictures [900, 3, 12, 12], each class with a pattern of its own."""
    y = torch.arange(900) % classes
    base = torch.randn(classes, 3, 4, 4, generator=draw(9))[y] + 0.6 * torch.randn(900, 3, 4, 4, generator=draw(8))
    return F.interpolate(base, size=(12, 12), mode="bicubic"), y


def numbers() -> tuple[Tensor, Tensor]:
    x = torch.randn(900, 8, generator=draw(4))
    return x, x[:, 0] - x[:, 1] + 0.5 * x[:, 2] * x[:, 3]


def asked(name: str, given: Any, *words: str, spoil: Callable[[Parts], None] | None = None, **splits: Any) -> Finding:
    """What the check says of (x, y) cut into 600, 200 and 100 rows, after `spoil` has changed them; or of a dataset part as it is."""
    if isinstance(given, tuple):
        x, y = given
        cut = {"train": [x[:600], y[:600]], "val": [x[600:800], y[600:800]], "test": [x[800:], y[800:]]}
        if spoil:
            spoil(cut)
        pairs = {split: tuple(pair) for split, pair in cut.items()}
        given = lambda: Splits(**pairs, **splits)  # noqa: E731
    plug("dataset", "mine", given)
    plug("model", "plain", plain)
    usual = () if any(word.startswith("model=") for word in words) else ("model=plain",)
    subject = Subject(built("dataset=mine", "task=supervised", *usual, *words), patience=5.0)
    finding = subject.judge(name, registry.get("check", name))
    subject.run.data.close()
    return finding


def plain(in_shape: Any, out_shape: Any) -> nn.Module:
    size, outputs = int(torch.Size(in_shape).numel()), out_shape[0] if out_shape else 1
    last = [] if out_shape else [nn.Flatten(0)]
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs), *last)


def sliding(in_shape: Any, out_shape: Any) -> nn.Module:
    layers = [nn.Conv2d(in_shape[0], 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, out_shape[0])]
    return nn.Sequential(*layers)


def every(change: Callable[[Tensor], Tensor], *names: str) -> Callable[[Parts], None]:
    """Change x of these splits (of all where none is named)."""

    def spoil(cut: Parts) -> None:
        for name in names or tuple(cut):
            cut[name][0] = change(cut[name][0])

    return spoil


__all__ = ["DataSpec", "Splits", "asked", "clouds", "draw", "every", "numbers", "plain", "sliding", "smooth"]
