"""What a dataset does not say of itself is read off its first rows and said in one line: shapes, kind of target, classes, vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import Leaf, leaves
from dlrun.data.items import DataError
from dlrun.data.sources import Items, Source
from dlrun.types import DataSpec

SCANNED_ITEMS = 1024
"""How many items of a user's Dataset are read to learn its targets; in memory all are."""
MOST_CLASSES = 1000
"""Whole-number targets above this (and above half the rows) are taken for quantities, not for classes."""
IGNORED = -100
"""Targets that torch's losses do not count: no class and no token."""


def scan_targets(source: Source) -> tuple[Tensor | None, bool]:
    """(targets, whether they are all): those in memory, a Dataset's own `targets`, or those of up to 1024 items spread over it."""
    held = source.targets()
    if held is not None or not isinstance(source, Items):
        return held, held is not None
    own = getattr(source.dataset, "targets", None)
    if source.rows is None and source.collate is None and own is not None and len(own) == len(source):
        try:
            return torch.as_tensor(own), True
        except (TypeError, ValueError, RuntimeError):  # strings, ragged lists: not something to learn from
            pass
    rows = torch.arange(len(source))
    whole = len(source) <= SCANNED_ITEMS
    if not whole:
        rows = torch.linspace(0, len(source) - 1, SCANNED_ITEMS).long()
    found = [source.take(chunk).get("y") for chunk in rows.split(64)]  # not at once: their inputs may be large
    targets = [y for y in found if isinstance(y, Tensor)]
    return (torch.cat(targets), whole) if len(targets) == len(found) else (None, False)


def check_labels(y: Any, classes: int | None, where: str) -> None:
    """Refuse labels that no output stands for."""
    if not isinstance(y, Tensor) or y.is_floating_point() or not y.numel() or classes is None:
        return
    low, high = int(y.min()), int(y.max())
    if high >= classes or (low < 0 and bool(((y < 0) & (y != IGNORED)).any())):
        wrong = high if high >= classes else low
        raise DataError(f"{where} has the label {wrong}, there are {classes} classes: mend it, or give spec=DataSpec(classes=...)")


def widened(spec: DataSpec, given: DataSpec | None, y: Any, notes: list[str]) -> DataSpec:
    """The spec with as many classes as targets `y` of val name, where that number was inferred from train and is smaller.

    That train never shows a class is for the checks to judge: refused here, nobody would learn why (a sorted set that was cut).
    """
    inferred = given is None or given.classes is None
    if (
        spec.kind != "classification"
        or not inferred
        or spec.classes is None
        or not isinstance(y, Tensor)
        or not _integers(y)
        or not y.numel()
    ):
        return spec
    top = int(y.max()) + 1
    if not spec.classes < top < MOST_CLASSES:
        return spec
    notes.append(f"data: val has labels up to {top - 1}, train up to {spec.classes - 1}: {top} classes")
    return replace(spec, classes=top, out_shape=(top,) if spec.out_shape == (spec.classes,) else spec.out_shape)


def _row_shape(leaf: Leaf) -> tuple[int, ...]:
    return tuple(next(leaves(leaf)).shape[1:])


def _integers(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() and tensor.dtype != torch.bool


def _target_facts(x: Tensor | None, y: Tensor, targets: Tensor | None) -> dict[str, object]:
    """Kind, classes, vocab and out_shape that the targets tell."""
    shape = tuple(y.shape[1:])
    seen = y if targets is None else targets
    if not _integers(y):
        binary = bool(((seen == 0) | (seen == 1)).all())
        return {"kind": "binary" if binary else "regression", "out_shape": shape}
    seen = seen[seen != IGNORED]
    low, high = (int(seen.min()), int(seen.max())) if seen.numel() else (0, 0)
    if x is not None and x.shape == y.shape and y.dim() > 1 and _integers(x) and low >= 0:
        vocab = max(high, int(x.max())) + 1
        return {"kind": "language_model", "vocab": vocab, "out_shape": (*shape, vocab)}
    if shape == () and low >= 0 and high < max(MOST_CLASSES, len(seen) // 2):
        return {"kind": "classification", "classes": high + 1, "out_shape": (high + 1,)}
    return {"kind": "regression" if shape == () else "other", "out_shape": shape}


def _out_shape(spec: DataSpec, x: Leaf, y: Leaf | None) -> tuple[int, ...]:
    """The output's shape for a kind that the dataset named itself."""
    if spec.kind == "classification" and spec.classes:
        return (spec.classes,)
    if spec.kind == "language_model" and spec.vocab:
        return (*_row_shape(x), spec.vocab)
    return _row_shape(x if y is None else y)


def _said(sample: Mapping[str, Leaf]) -> str:
    parts = []
    for name, leaf in sample.items():
        shapes = " + ".join(f"{tuple(tensor.shape[1:])} {str(tensor.dtype).removeprefix('torch.')}" for tensor in leaves(leaf))
        parts.append(f"{name} {shapes}")
    return ", ".join(parts)


def complete(given: DataSpec | None, train: Source, sample: Mapping[str, Leaf], notes: list[str]) -> tuple[DataSpec, Tensor | None]:
    """The spec with every gap filled, and all targets of train where they were read. `sample` is the first rows, before normalisation."""
    spec = given or DataSpec()
    x, y = sample.get("x"), sample.get("y")
    found: dict[str, object] = {}
    if x is not None and not spec.in_shape:
        found["in_shape"] = _row_shape(x)
    kind_unknown = given is None or (spec.kind == "other" and not spec.out_shape)
    classes_unknown = spec.kind == "classification" and spec.classes is None
    vocab_unknown = spec.kind == "language_model" and spec.vocab is None
    targets, whole = (None, False)
    if isinstance(y, Tensor) and (kind_unknown or classes_unknown or vocab_unknown):
        targets, whole = scan_targets(train)
        facts = _target_facts(x if isinstance(x, Tensor) else None, y, targets)
        wanted = facts if kind_unknown else {key: value for key, value in facts.items() if key in ("classes", "vocab")}
        found.update({key: value for key, value in wanted.items() if not getattr(spec, key) or getattr(spec, key) == "other"})
    spec = replace(spec, **found)  # type: ignore[arg-type]
    if not spec.out_shape and x is not None and (shape := _out_shape(spec, x, y)):  # a single number, (), is what it says already
        found["out_shape"] = shape
        spec = replace(spec, out_shape=shape)
    partly = targets is not None and not whole
    _note(found, sample, f" (from {SCANNED_ITEMS} items; say spec=DataSpec(classes=...) if there are more)" if partly else "", notes)
    return spec, targets if whole else None


def _note(found: Mapping[str, object], sample: Mapping[str, Leaf], scanned: str, notes: list[str]) -> None:
    if "x" not in sample:
        notes.append(f"data: a row holds {', '.join(sample)} and no x: the task has to read it by those names")
    if not found:
        return
    facts = ", ".join(f"{key} {value}" for key, value in found.items())
    notes.append(f"data: inferred from the first rows ({_said(sample)}): {facts}{scanned}")
