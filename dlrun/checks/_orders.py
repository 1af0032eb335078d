"""Targets put in another order than their inputs by a rule: files listed as text, steps and episodes exchanged, a list reversed or sorted.

Each rule is undone, and simple models are asked whether they find the targets then. An order that was not taken shuffles rows, in which
there is nothing to find; so one in which much is found, where nothing is as rows are, is the one that was taken.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from dlrun.checks._frame import Rows, Subject
from dlrun.checks._inputs import JUDGED, MOST_BYTES, features, inputs, labels, parts
from dlrun.checks._pairing import directions, simple
from dlrun.checks._trial import once
from dlrun.functional.relation import Relation, within

LEAST, MOST, TRIED, FEW, WINDOW = 100, 20_000, 8, 40, 0.95
CHANCE, STRONG, FAR = 3.0, 0.3, 0.25


def other_order(subject: Subject) -> tuple[str, Relation, Relation] | None:
    """(the order in which targets stand, what is found as rows are, and once it is undone); None where there is no such order."""
    own = simple(subject).get("rows")
    if own is None or own.z > CHANCE:
        return None
    rows = whole(subject)
    y = rows.y if rows is not None else None
    if rows is None or not isinstance(y, Tensor) or len(rows) < LEAST:
        return None
    x, known = features(rows), labels(subject, y)
    target, classes = known if known is not None else (directions(y.detach().cpu()), None)
    if x is None or target is None:
        return None
    at = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))[:JUDGED]
    for name, order in orders(len(x)):
        moved = target[order][at]
        found = within(x[at], moved, classes)
        if found.clear(STRONG) and found.strength > own.strength + FAR:
            return name, own, found
    return None


@once
def whole(subject: Subject) -> Rows | None:
    """All rows of train in their own order; None of too many, and of items whose reading takes more than a fifth of the check's time."""
    data = subject.run.data
    count = data.rows["train"]
    if not LEAST <= count <= MOST:
        return None
    begun, few = time.thread_time(), data.head("train", TRIED)
    if sum(leaf[0].numel() * leaf.element_size() for leaf in inputs(few).values()) * count > MOST_BYTES:
        return None
    slow = (time.thread_time() - begun) / TRIED * count > subject.patience / 5
    if slow and not getattr(data.raw("train"), "in_memory", False):
        return None
    return Rows(data.head("train", count), torch.arange(count), True)


def orders(count: int) -> Iterator[tuple[str, Tensor]]:
    """(name, which target belongs to each row) for orders of `count` rows; that of rows themselves is not among them."""
    here = torch.arange(count)
    yield "reversed", here.flip(0)
    for first in (0, 1):
        as_text = torch.tensor(sorted(range(count), key=lambda i: str(i + first)))
        for order in (as_text, as_text.argsort()):
            if not torch.equal(order, here):
                yield "sorted as text, without leading zeros (1, 10, 11, 2)", order
    sizes = [size for size in range(2, count // 2 + 1) if count % size == 0]
    for size in sizes if len(sizes) <= FEW else []:
        yield f"step by step where inputs stand in blocks of {size}, or the other way round", here.reshape(-1, size).T.flatten()
    yield "cut in two halves and exchanged", here.roll(count // 2)


def sorted_columns(subject: Subject) -> int:
    """How many columns of x are each in rising (or each in falling) order over the rows, as rows of several columns never are."""
    rows = whole(subject)
    if rows is None or len(rows) < LEAST:
        return 0
    leaves = [leaf.detach().cpu() for leaf in parts(rows.x).values()]
    if len(leaves) != 1 or leaves[0].dim() != 2 or not leaves[0].is_floating_point():
        return 0
    steps = leaves[0][1:] - leaves[0][:-1]
    many = (steps != 0).double().mean(0) > WINDOW
    rising, falling = ((sign * steps >= 0).all(0) & many for sign in (1, -1))
    count = int(max(rising.sum(), falling.sum()))
    return count if count >= 2 and count == leaves[0].shape[1] and not _one_line(leaves[0]) else 0


def _one_line(x: Tensor) -> bool:
    """Whether columns are functions of one another: powers of one number, say, of rows that were sorted by it."""
    return x.shape[1] < 3 or float(torch.linalg.matrix_rank(x.double() - x.double().mean(0))) < x.shape[1]
