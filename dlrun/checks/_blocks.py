"""A part of train whose labels do not belong to their inputs: from some row on the pairing slipped, or one of several files was shuffled.

Models of val are asked for blocks of train, in the order in which rows are stored. Where they tell most blocks as well as ever and others
not at all, though inputs and labels there are distributed as everywhere, these blocks are paired wrongly. (Blocks of one class, of a file
that was sorted, are not judged.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dlrun.checks._frame import Subject
from dlrun.checks._inputs import features, labels, sample, tables
from dlrun.functional.relation import Relation, guesses, judged

BLOCKS, FEWEST, LEAST = 8, 40, 100
TOLD, LOST, GAP, MOVED, APART = 0.4, 0.2, 5.0, 0.5, 0.25


@dataclass(frozen=True)
class Torn:
    """What models of val tell of most blocks of train, and of those in which they tell nothing: from which row to which."""

    told: float
    lost: float
    first: int
    last: int
    rows: int


def torn_block(subject: Subject) -> Torn | None:
    """The blocks of train that are paired wrongly; None where there are none."""
    val = tables(subject).get("val")
    if val is None or len(val) < LEAST:
        return None
    rows = sample(subject, "train")
    x, known = features(rows), labels(subject, rows.y)
    if (
        x is None
        or known is None
        or x.shape[1] != val.x.shape[1]
        or known[1] is None is not val.classes is None
        or len(x) < BLOCKS * FEWEST
    ):
        return None
    (y, _), classes = known, val.classes
    if classes and int(y.max()) >= classes:
        return None
    said = guesses(val.x, val.y, x, classes)
    each = [judged(guess, y, classes) for guess in said]
    guess = said[max(range(len(said)), key=lambda place: each[place].strength)]
    block = (rows.indices * BLOCKS // (int(rows.indices.max()) + 1)).clamp(max=BLOCKS - 1)
    return _odd_ones(guess, x, y, classes, block, rows.indices)


def _odd_ones(guess: Tensor, x: Tensor, y: Tensor, classes: int | None, block: Tensor, indices: Tensor) -> Torn | None:
    found: dict[int, Relation] = {}
    for number in range(BLOCKS):
        mine = block == number
        if int(mine.sum()) < FEWEST or not _usual(x, mine) or not _usual(_coded(y, classes), mine):
            return None
        found[number] = judged(guess[mine], y[mine], classes)
    good = sorted(one.strength for one in found.values())[-BLOCKS // 4]
    bad = [number for number, one in found.items() if one.strength < APART * good]
    if good < TOLD or not bad or len(bad) > BLOCKS // 2 + 1 or bad != list(range(bad[0], bad[-1] + 1)):
        return None
    theirs = torch.isin(block, torch.tensor(bad))
    lost, kept = judged(guess[theirs], y[theirs], classes), judged(guess[~theirs], y[~theirs], classes)
    gap = (kept.strength - max(lost.strength, 0.0)) * int(theirs.sum()) ** 0.5
    if lost.strength > LOST * kept.strength or not lost.absent() or kept.strength < TOLD or gap < GAP:
        return None
    return Torn(kept.strength, lost.strength, int(indices[theirs].min()), int(indices[theirs].max()), int(theirs.sum()))


def _coded(y: Tensor, classes: int | None) -> Tensor:
    return torch.nn.functional.one_hot(y.long(), classes).float() if classes else y.float()


def _usual(values: Tensor, mine: Tensor) -> bool:
    """Whether columns [N, D] of some rows lie where those of the others do."""
    values = values.reshape(len(values), -1).float()
    spread = values.std(0, correction=0).clamp(min=1e-9)
    moved = (values[mine].mean(0) - values[~mine].mean(0)).abs() / spread
    return float(moved.mean()) < MOVED
