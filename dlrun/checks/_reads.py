"""Rows that nobody transforms beside several reads of rows of train, and pairs of reads of which one is the other, mirrored or turned."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import leaves
from dlrun.checks._frame import Subject
from dlrun.checks._inputs import JUDGED, is_integer, sample
from dlrun.checks._trial import once
from dlrun.data.items import generators_kept
from dlrun.data.sources import Items

ITEMS, READS, LEAST, PAIRS, MOST, LIKE = 240, 4, 48, 12, 64, 0.9


@dataclass
class Read:
    """Rows: x, numbers that are asked for [N, K] (K may be 0), and classes [N] where there are any."""

    x: Tensor
    numbers: Tensor
    classes: Tensor | None


@once
def given(subject: Subject) -> list[Read] | None:
    """Rows that nobody transforms, many rows of train as training gets them, several reads of fewer; None where there is no transform."""
    data = subject.run.data
    source = data.raw("train")
    if data.augments:
        clean = sample(subject, "train").batch
        with generators_kept():
            batches = [data.augmented(clean[:rows].map(torch.clone), step) for step, rows in enumerate((len(clean), *[ITEMS] * READS))]
    elif isinstance(source, Items) and "val" in data.rows:
        clean = sample(subject, "val", JUDGED).batch
        batches = [sample(subject, "train").batch, *_read(subject, source, subject.patience / 6)]
    else:
        return None
    made = [_made(batch) for batch in (clean, *batches)]
    known = [read for read in made if read is not None]
    shapes = {(read.x.shape[1:], read.numbers.shape[1], read.classes is None) for read in known}
    return known if len(known) == len(made) and len(shapes) == 1 else None


def _read(subject: Subject, source: Items, seconds: float) -> list[Any]:
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0)).tolist()[:ITEMS]
    begun = time.perf_counter()
    source.keyed([("mirror", row) for row in order[:8]])
    each = (time.perf_counter() - begun) / min(8, len(order))
    order = order[: max(int(seconds / max(each * READS, 1e-9)), 2 * PAIRS)]
    return [subject.run.data._batch(source.keyed([(f"mirror {number}", row) for row in order])) for number in range(READS)]


def _made(batch: Any) -> Read | None:
    """Rows as a `Read`: of answers in several tensors all numbers side by side, and the one tensor of classes."""
    x, y = batch.get("x"), [leaf.detach().cpu() for leaf in leaves(batch.get("y", ()))]
    if not isinstance(x, Tensor) or not x.is_floating_point() or not bool(x.isfinite().all()) or any(len(leaf) != len(x) for leaf in y):
        return None
    numbers = [leaf.reshape(len(leaf), -1).float() for leaf in y if leaf.is_floating_point() and leaf[0].numel() <= MOST]
    classes = [leaf.long() for leaf in y if is_integer(leaf) and leaf.dim() == 1 and int(leaf.min()) >= 0 and int(leaf.max()) < MOST]
    table = torch.cat(numbers, 1) if numbers else torch.zeros(len(x), 0)
    return Read(x.detach().cpu().float(), table, classes[0] if classes else None) if bool(table.isfinite().all()) else None


def ways(x: Tensor) -> Iterator[tuple[str, Any]]:
    """Transforms that keep the shape of rows, by name."""
    if x.dim() == 4:
        yield "mirrored (left and right)", lambda rows: rows.flip(-1)
        yield "mirrored (upside down)", lambda rows: rows.flip(-2)
        yield "turned by half", lambda rows: rows.flip(-1, -2)
        if x.shape[-1] == x.shape[-2]:
            yield "turned by a quarter", lambda rows: rows.rot90(1, (-2, -1))
            yield "transposed", lambda rows: rows.transpose(-2, -1)
    else:
        yield "reversed", lambda rows: rows.flip(-1)
        if x.dim() == 3:
            yield "reversed", lambda rows: rows.flip(-2)
    yield "inverted (their sign)", lambda rows: -rows


def pairs(reads: list[Read], way: Any) -> tuple[Read, Read]:
    """Pairs of reads of one row of which the second is the first, transformed."""
    first, places = reads[0], list[tuple[int, int]]()
    turned, same = way(first.x), []
    for read in reads[1:]:
        like, still = _alike(turned, read.x), _alike(first.x, read.x)
        same.append((like > LIKE) & (like > still + 1e-6))
    for row in range(len(first.x)):
        hit = next((number for number, rows in enumerate(same) if bool(rows[row])), None)
        places += [(row, hit)] if hit is not None else []
    kept = [row for row, _ in places]
    x, y = first.x[kept], first.numbers[kept]
    others = [(reads[hit + 1].x[row], reads[hit + 1].numbers[row]) for row, hit in places]
    classes = None if first.classes is None else first.classes[kept]
    theirs = None if classes is None else torch.tensor([int(reads[hit + 1].classes[row]) for row, hit in places])  # type: ignore[index]
    if not places:
        return Read(x, y, classes), Read(x, y, theirs)
    return Read(x, y, classes), Read(torch.stack([one for one, _ in others]), torch.stack([one for _, one in others]), theirs)


def _alike(one: Tensor, two: Tensor) -> Tensor:
    """Correlation of rows, about the mean over all rows: what all rows have in common is no likeness."""
    middle = (one.mean(0, keepdim=True) + two.mean(0, keepdim=True)) / 2
    a, b = (one - middle).flatten(1), (two - middle).flatten(1)
    both: Tensor = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-9)
    return both
