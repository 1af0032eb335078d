"""Targets of train and val that do not come from one source: other shares of classes, another unit, labels numbered differently.

The catalogue's test of shares (chi-square p < 1e-4 and total variation > 0.15) fires on splits by time and on sets that were balanced in
train alone, both right: such a shift is told. A warning takes shares that lie far apart with neither split even, or another unit.

Shares say nothing of labels that are numbered differently: there one split is judged by the other, with models that fit in milliseconds
(`functional/relation.py`). Labels that belong to no input are the matter of `label_permutation`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._inputs import is_integer, one_a_row, parts, sample, tables, told
from dlrun.checks._pixels import pixels
from dlrun.checks._renamed import Renamed, renamed
from dlrun.checks._units import mixed, rescaled

LEAST = 100
STEP = "make the list of labels once, from train, and use it for all splits"
P, TOLD, FAR = 1e-4, 0.15, 0.4
UNIT, Z, SORTED = 10.0, 6.0, 0.2
FOLLOWS = ("item_stability", "constant_input", "label_histogram", "duplicates_within", "split_leakage", "split_input_shift")
RULE = (
    f"warning: shares of classes differ by a total variation > {FAR:g} (p < {P:g}) with neither split even; numbers lie > {UNIT:g} sd away "
    f"or spread {UNIT:g} x as much; or a relation to the inputs (z > 6, strength > 0.3) in each split, none (z < 3) from one to the other; "
    "or models of train tell val's labels twice as well in another order (z > 4.5), or numbers that lie 1.5 x as far apart or 4 sd away; "
    "or numbers sorted as they are stored, with val's beyond train's and no input that rises along"
)


@check(stage="data", recipe="Hacker's Guide: are train and val of one kind?", follows=FOLLOWS)
def split_label_shift(subject: Subject) -> Finding:
    """Compare targets of up to 1,024 rows of train and val, then what inputs tell of them."""
    y = {split: sample(subject, split).y for split in ("train", "val") if split in subject.run.data.rows}
    kind = one_a_row(subject, y["train"])
    masks = pixels(subject) if not tables(subject) and "val" in y and subject.patience > 1 else []
    if masks and (new := renamed(*masks)):
        return _anew(new, "classes are", {})
    if not kind or "val" not in y:
        return skipped("it takes a val split, with a class or number a row")
    if any(not isinstance(targets, Tensor) or len(targets) < 32 for targets in y.values()):
        return skipped("it takes 32 targets of each split")
    train, val = y["train"].detach().cpu(), y["val"].detach().cpu()
    whole = is_integer(train) or kind == "binary"
    numbers: dict[str, Any] = {}
    found = _shares(train, val, numbers) if whole and train.dim() == 1 else _units(subject, train, val, numbers)
    if found.level != "warning":
        found = _related(subject, numbers) or found
    found.threshold = RULE
    return found


def _shares(train: Tensor, val: Tensor, numbers: dict[str, Any]) -> Finding:
    """Total variation and chi-square of two samples of classes."""
    one, two = train[train >= 0].long(), val[val >= 0].long()
    size = int(max(one.max(), two.max())) + 1 if len(one) and len(two) else 0
    if not 1 < size <= 1000:
        return Finding("info", "targets are no few classes", numbers=numbers)
    counts = torch.stack([torch.bincount(part, minlength=size).double() for part in (one, two)])
    counts = counts[:, counts.sum(0) > 0]
    shares = counts / counts.sum(1, keepdim=True)
    expected = counts.sum(1, keepdim=True) * counts.sum(0, keepdim=True) / counts.sum()
    chi = float(((counts - expected).square() / expected).sum())
    variation, p = float((shares[0] - shares[1]).abs().sum() / 2), _tail(chi, max(counts.shape[1] - 1, 1))
    numbers |= {"total_variation": variation, "p": p}
    text = f"shares of classes in train and val differ by {variation:.2f} (total variation, p = {p:.2g})"
    even = any(float(part.max()) < 1.5 / len(part) and float(part.min()) > 0.5 / len(part) for part in shares)
    if variation > FAR and p < P and not even:
        cause = "the splits were cut from a sorted set, or come from two sources"
        return Finding("warning", text, cause, "cut val from the shuffled whole, by class", numbers)
    return Finding("info" if variation > TOLD and p < P else "ok", text, numbers=numbers)


def _tail(chi: float, freedom: int) -> float:
    """P(a chi-square variable of `freedom` is larger), by Wilson and Hilferty."""
    z = ((chi / freedom) ** (1 / 3) - 1 + 2 / (9 * freedom)) / math.sqrt(2 / (9 * freedom))
    return 0.5 * math.erfc(z / math.sqrt(2))


def _units(subject: Subject, train: Tensor, val: Tensor, numbers: dict[str, Any]) -> Finding:
    """Where numbers lie and how far they spread."""
    one, two = (part.double().flatten()[part.double().flatten().isfinite()] for part in (train, val))
    if len(one) < 32 or len(two) < 32:
        return Finding("info", "too few targets are finite", numbers=numbers)
    spread = max(float(one.std()), 1e-12)
    moved, wider = abs(float(two.mean() - one.mean())) / spread, float(two.std()) / spread
    numbers |= {"moved_by_sd": moved, "spread_ratio": wider}
    text = f"targets of val lie {moved:.2g} sd from those of train and spread {wider:.2g} x as much"
    if one_a_row(subject, train) == "regression" and (moved > UNIT or not 1 / UNIT < wider < UNIT) and not _ordered(subject):
        cause = "val is in another unit: one of the two was standardised"
        return Finding("warning", text, cause, "put both through the same transform, fitted on train", numbers)
    if _cut_in_order(subject):
        text = f"targets never fall from row to row of train, and none of val lies among them: they are {moved:.2g} sd away"
        cause = "the table was sorted by the target and then cut in order into splits"
        return Finding("warning", text, cause, "shuffle the rows, then cut", numbers)
    return Finding("ok" if moved < 1 and 0.5 < wider < 2 else "info", text, numbers=numbers)


def _cut_in_order(subject: Subject) -> bool:
    """Whether targets of train are sorted as stored, with those of val beyond them. A column that rises along, a time, is a reason."""
    train, val = (subject.run.data.targets(split) for split in ("train", "val"))
    if train is None or val is None or train.shape[1:].numel() != 1 or len(train) < LEAST or len(train.unique()) < SORTED * len(train):
        return False
    one, two = train.double().flatten(), val.double().flatten()
    if not (_rises(one) and bool(two.min() >= one[-1])) and not (_rises(-one) and bool(two.max() <= one[-1])):
        return False
    head = parts(subject.run.data.head("train", LEAST).get("x")).values()
    columns = [leaf.detach().cpu().double().reshape(len(leaf), -1) for leaf in head]
    return not any(_rises(way * column) for flat in columns for column in flat.T if len(column.unique()) > 2 for way in (1, -1))


def _rises(x: Tensor) -> bool:
    """Whether no number is smaller than the one before."""
    return bool((x[1:] >= x[:-1]).all())


def _ordered(subject: Subject) -> bool:
    """Whether targets of train follow each other like a series: then those of val lie where the series has gone to."""
    y = subject.run.data.targets("train")
    if y is None or len(y) < 32:
        return False
    series = y[:4096].double().reshape(min(len(y), 4096), -1)[:, 0]
    series = series - series.mean()
    return float((series[1:] * series[:-1]).sum() / series.square().sum().clamp(min=1e-12)) > 0.5


def _related(subject: Subject, numbers: dict[str, Any]) -> Finding | None:
    """The finding where inputs tell the labels within train and within val, but not from one to the other as they are numbered."""
    known = tables(subject)
    if known.get("val") is None or min(map(len, known.values())) < LEAST:
        return None
    tells = told(subject)
    numbers |= {name: one.strength for name, one in tells.items()}
    new = renamed(known["train"], known["val"]) if tells["train"].z > Z else None
    if new:
        return _anew(new, "classes are" if known["train"].classes else "columns of labels are", numbers)
    scale = rescaled(known["train"], known["val"])
    if scale:
        numbers |= {"times": scale.times, "higher_by_sd": scale.higher, "told": scale.told}
        text = f"models of train tell val's targets ({scale.told:.2f}), which lie {scale.times:.2g} x as far apart as told and "
        text += f"{scale.higher:+.2g} sd of train's away, while inputs of both are distributed alike"
        cause = "targets were scaled, or put through a logarithm or the like, in one split only"
        return Finding("warning", text, cause, "put both through the same transform, fitted on train", numbers)
    pair = mixed(known["train"], known["val"]) if not scale else None
    if pair:
        text = f"models of train tell {pair[0]:.2f} of some columns of val's targets as they are, {pair[1]:.2f} once they are mixed anew"
        cause = "targets of val are in another form than those of train: corners and sizes of boxes, say, or two angles for one"
        return Finding("warning", text, cause, "convert both splits to one form", numbers)
    weaker = min(tells["train"], tells["val"], key=lambda one: one.strength)
    if known["train"].classes is None or not weaker.clear():
        return None
    if not all(tells[way].lost(weaker) for way in ("train to val", "val to train")):
        return None
    text = (
        f"inputs tell the labels within train ({tells['train'].strength:.2f}) and within val ({tells['val'].strength:.2f}), but not from "
    )
    text += f"one to the other ({tells['train to val'].strength:.2f})"
    return Finding("warning", text, "labels are numbered differently in train and val", STEP, numbers)


def _anew(new: Renamed, what: str, numbers: dict[str, Any]) -> Finding:
    numbers |= {"as_numbered": new.plain, "numbered_anew": new.moved, "z": new.z}
    text = f"models of train tell {new.plain:.2f} of val's labels as they are numbered, {new.moved:.2f} numbered anew ({new.told})"
    return Finding("warning", text, f"{what} numbered in another order in val than in train", STEP, numbers, RULE)
