"""Rows of val that were made from rows of train before the splits were cut: copied, or copied and changed a little.

Where train repeats itself as often as val repeats train, equal rows alone prove nothing: patterns may be few, or a region dense. What tells
copies from a dense region is a gap: the nearest row is many times nearer than those that follow it, in a space where distances are alike.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Rows, Subject
from dlrun.checks._inputs import inputs, is_integer, labels, parts
from dlrun.functional.nearest import row_sums

DIFFERENT, AGREE, AMONG = 100, 0.95, 64
AROUND, GAP, RARE, GROUPS, MOST = 16, 4.0, 5.0, 3, 4096
HELD, GRAPHS = 0.01, 64


def copied_rows(train: list[bytes], other: list[bytes], y: Tensor | None, z: Tensor | None) -> float:
    """The share of `other` that stands in train, where train repeats itself too, by copying and not for want of patterns; else 0.

    Many different rows with equal targets, and either all of them equally often, or the rare classes so often that all classes are even.
    (Patterns of which there are few repeat as chance will have it; rows that were measured several times differ in their targets.)
    """
    if y is None or z is None or y.shape[1:] != z.shape[1:] or len(y) != len(train) or len(z) != len(other):
        return 0.0
    first = {key: row for row, key in reversed(list(enumerate(train)))}
    pairs = [(first[key], row) for row, key in enumerate(other) if key in first]
    within = [(first[key], row) for row, key in enumerate(train) if first[key] != row]
    if len(first) < DIFFERENT or not pairs or not within:
        return 0.0
    every = Counter(train + other)
    often, rows = Counter(every.values()).most_common(1)[0]
    same = [bool((y[a] == z[b]).all()) for a, b in pairs[:AMONG]] + [bool((y[a] == y[b]).all()) for a, b in within[:AMONG]]
    copied = (often > 1 and rows > AGREE * len(every)) or evened(y, torch.tensor(sorted(first.values())))
    return len(pairs) / len(other) if copied and sum(same) >= AGREE * len(same) else 0.0


def evened(y: Tensor, first: Tensor) -> bool:
    """Whether classes are about equally frequent by repeating rows of the rare ones alone; `first` are the rows without repeats."""
    flat = y.reshape(-1)
    if y.numel() != len(y) or not bool((flat == flat.round()).all()) or not 0 <= float(flat.min()) <= float(flat.max()) < 1000:
        return False
    every, unique = (torch.bincount(labels.long(), minlength=int(flat.max()) + 1).double() for labels in (flat, flat[first]))
    there = every > 0
    copies = every[there] / unique[there].clamp(min=1)
    balanced = every[there].max() < 1.5 * every[there].min() and unique[there].max() > 2 * unique[there].min()
    return bool(balanced and copies.min() < 1.2)


def grown(subject: Subject, train: Rows, rows: Rows) -> float:
    """The share of `rows` that have a near copy in train, told by a gap to what lies around and by an equal target; 0 without targets."""
    tables = [_table(part) for part in (train, rows)]
    mine, theirs = labels(subject, train.y), labels(subject, rows.y)
    one, two = tables
    if one is None or two is None or one.shape[1] != two.shape[1] or mine is None or theirs is None or len(one) < 4 * AROUND:
        return 0.0
    (y, classes), (z, _) = mine, theirs
    index = torch.cdist(two, one[:MOST]).topk(AROUND, largest=False).indices
    distance = torch.stack([(one[near] - row).norm(dim=1).sort().values for near, row in zip(index, two, strict=True)])
    ratio = distance[:, 1:] / distance[:, :-1].clamp(min=1e-9 * float(distance.max()))
    jump, place = ratio[:, : AROUND // 2].max(1)
    near = (jump > _gap(distance, place)) & (distance.gather(1, place[:, None]).flatten() > 0)
    if not bool(near.any()):
        return 0.0
    size = float((place[near] + 2).float().median())  # rows of a group, the row asked for among them
    if classes is not None and (len(one) + len(two)) / size < GROUPS * 10 * classes:
        return 0.0  # few tight groups may be the classes themselves
    y, z = y.reshape(len(y), -1).float(), z.reshape(len(z), -1).float()
    apart = (y[index[:, 0]] - z).abs().amax(1)
    equal = apart <= (1e-6 if classes is not None else 0.02 * float(y.std()))
    return float((near & equal).float().mean()) if float(equal[near].float().mean()) >= AGREE else 0.0


def _gap(distance: Tensor, place: Tensor) -> float:
    """How many times further the next row must be to be no neighbour: the fewer directions rows spread in, the further by chance.

    In m directions the next row is r times further with a chance of r^-m; m is read off the rows beyond each gap (Levina, Bickel 2004).
    """
    beyond = distance.gather(1, place[:, None] + 1).flatten().clamp(min=1e-12)
    rise = (distance[:, -1] / beyond).log() / (AROUND / (place + 2.0)).log()
    return max(GAP, math.exp(min(RARE * float(rise.median()), 50.0)))


def _table(rows: Rows) -> Tensor | None:
    """Rows as numbers by their own spread, [N, D]; None where they hold tokens or codes, too few columns, or values that are no numbers."""
    leaves = [leaf.detach().cpu() for leaf in parts(rows.x).values()]
    if not leaves or any(is_integer(leaf) for leaf in leaves):
        return None
    flat = torch.cat([leaf.reshape(len(leaf), -1).float() for leaf in leaves], 1)
    return flat if flat.shape[1] >= 4 and bool(flat.isfinite().all()) else None


def masks_overlap(subject: Subject, split: str) -> tuple[int, int]:
    """(positions that count in train and in `split` too, of rows that both have; how many count in `split`)."""
    data = subject.run.data
    if max(data.rows["train"], data.rows[split]) > GRAPHS:
        return 0, 0
    one, two = (data.head(name, GRAPHS) for name in ("train", split))
    counts = [_counted(batch) for batch in (one, two)]
    if counts[0] is None or counts[1] is None or counts[0].shape[1:] != counts[1].shape[1:]:
        return 0, 0
    place = {key: row for row, key in enumerate(row_sums(list(inputs(one).values())))}
    pairs = [(place.get(key), row) for row, key in enumerate(row_sums(list(inputs(two).values())))]
    both = sum(int((counts[0][a] & counts[1][b]).sum()) for a, b in pairs if a is not None)
    return both, int(counts[1].sum())


def _counted(batch: Any) -> Tensor | None:
    """Which positions of y count, [N, ...] with two axes at least; None where all do."""
    y, mask = batch.get("y"), batch.get("mask")
    if not isinstance(y, Tensor) or y.dim() < 2:
        return None
    counted = torch.ones(y.shape, dtype=torch.bool)
    if isinstance(mask, Tensor):
        if mask.shape != y.shape[: mask.dim()]:
            return None
        counted &= mask.bool().cpu().reshape(*mask.shape, *[1] * (y.dim() - mask.dim()))
    if is_integer(y):
        counted &= y.cpu() >= 0
    elif y.is_floating_point():
        counted &= y.cpu().isfinite()
    return None if bool(counted.all()) else counted
