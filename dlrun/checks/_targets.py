"""How targets are to be compared with outputs, as far as shapes and values tell: classes, labels of 0 and 1, shares of classes, numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import Batch, leaves
from dlrun.functional.masks import counts_targets, of_inputs

CLASSIFY = ("classification", "language_model", "sequence", "graph", "other")
IGNORED = -100


@dataclass(frozen=True)
class Layout:
    """Where the classes of each target stand in the outputs: `last` [..., C], `second` [B, C, ...], `flat` [N, C], `swapped` [T, B, C]."""

    name: str
    shape: tuple[int, ...]

    def flat(self, z: Tensor) -> Tensor:
        """z as [N, C], a row for each target in the targets' own order."""
        if self.name == "second":
            z = z.movedim(1, -1)
        if self.name == "swapped":
            z = z.transpose(0, 1)
        return z.reshape(-1, z.shape[-1])

    def back(self, rows: Tensor) -> Tensor:
        """[N, C] in the outputs' own shape again."""
        if self.name == "second":
            return rows.reshape(self.shape[0], *self.shape[2:], -1).movedim(-1, 1)
        if self.name == "swapped":
            return rows.reshape(self.shape[1], self.shape[0], -1).transpose(0, 1)
        return rows.reshape(self.shape)

    @property
    def axis(self) -> int:
        """The axis of the classes."""
        return 1 if self.name == "second" else len(self.shape) - 1

    @property
    def classes(self) -> int:
        """How many classes."""
        return self.shape[self.axis]


@dataclass(frozen=True, eq=False)
class Targets:
    """`mode`: classes, labels, shares, numbers or none; `value` the tensor of targets, found in the batch under `name`."""

    mode: str
    value: Tensor | None = None
    name: str = "y"
    layouts: tuple[Layout, ...] = field(default=())
    mask: Tensor | None = None

    def like(self, out: Tensor) -> Tensor:
        """Labels, shares or numbers as floats in the shape of `out`."""
        assert self.value is not None
        return self.value.reshape(out.shape).to(out.dtype)

    def index(self) -> Tensor:
        """Classes [N]."""
        assert self.value is not None
        return self.value.flatten().long()

    def counted(self, layout: Layout) -> Tensor:
        """Which of them name a class and are not masked, bool [N]."""
        assert self.value is not None
        index = self.index()
        named = (index >= 0) & (index < layout.classes)
        return named if self.mask is None else named & self.mask.expand_as(self.value).flatten()


def read(kind: str, out: Tensor, batch: Batch) -> Targets:
    """How the targets of `batch` are to be read beside `out`."""
    if kind in ("contrastive", "gan", "diffusion") and "y" not in batch:
        return Targets("none")
    y = batch.get("y")
    if kind == "vae":
        return _made_again(out, batch)
    given, name = batch.get("mask"), "y"
    mask = given if isinstance(given, Tensor) and counts_targets(given, y) else None
    if y is None or kind == "contrastive" or (given is not None and mask is None and not of_inputs(given, batch.get("x"))):
        return Targets("none")
    if mask is not None:
        mask = mask.reshape(*mask.shape, *[1] * (y.dim() - mask.dim())).expand(y.shape)
    found = [leaf for leaf in leaves(y) if leaf.dim() and leaf.numel()]
    if kind in CLASSIFY:
        for leaf in found:
            layouts = layouts_of(out, leaf)
            if layouts:
                return Targets("classes", leaf, name, layouts, mask)
    for leaf in found:
        if leaf.numel() == out.numel() and _same_but_ones(leaf, out):
            return Targets(_mode(kind, leaf), leaf, name, mask=mask)
    return Targets("none")


def _made_again(out: Tensor, batch: Batch) -> Targets:
    """Targets of a reconstruction: y where it has as many numbers, else x."""
    for name in ("y", "x"):
        leaf: Any = batch.get(name)
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.numel() == out.numel() and len(leaf) == len(out):
            return Targets("numbers", leaf, name)
    return Targets("none")


def _same_but_ones(one: Tensor, other: Tensor) -> bool:
    """Whether two shapes differ by axes of size 1 alone."""
    return [n for n in one.shape if n != 1] == [n for n in other.shape if n != 1]


def _mode(kind: str, y: Tensor) -> str:
    values = y[torch.isfinite(y)] if y.is_floating_point() else y
    if bool(((values == 0) | (values == 1)).all()) and kind != "regression":
        return "labels"
    mixed = y.is_floating_point() and y.dim() > 1 and y.shape[-1] > 1 and bool((values >= 0).all())
    if mixed and float((y.sum(-1) - 1).abs().max()) < 1e-4:
        return "shares"
    return "numbers"


def layouts_of(out: Tensor, y: Tensor) -> tuple[Layout, ...]:
    """Every way in which outputs may hold the logits of integer targets `y`, the usual one first."""
    if y.is_floating_point() or y.dtype == torch.bool or out.dim() < 2:
        return ()
    shape, found = tuple(out.shape), []
    if shape[:-1] == tuple(y.shape):
        found.append("last")
    if (shape[0], *shape[2:]) == tuple(y.shape) and out.dim() > 2:
        found.append("second")
    if out.dim() == 2 and shape[0] == prod(y.shape) and y.dim() > 1:
        found.append("flat")
    if out.dim() == 3 and y.dim() == 2 and shape[:2] == (y.shape[1], y.shape[0]):
        found.append("swapped")
    return tuple(layout for layout in (Layout(name, shape) for name in found) if layout.classes > 1)
