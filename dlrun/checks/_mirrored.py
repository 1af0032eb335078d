"""Pictures that are mirrored when they are read, and targets that say where something is and stay as they were: keypoints, angles, boxes.

Rows of val, which nobody mirrors, teach simple models what a picture's targets are. Of two reads of one item of train that are mirror
images of each other, with the same targets, these models then say two things. Where they say opposite ones, the targets go with the
picture. An age or a price is the same in the mirror, and a model says about the same of both.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Subject
from dlrun.checks._inputs import features, labels, sample
from dlrun.data.sources import Items
from dlrun.functional.relation import guesses

ITEMS, READS, LEAST, TOLD, OPPOSITE = 96, 4, 24, 0.5, -0.3
LIKE = 0.9


def against(subject: Subject) -> tuple[str, int, float, float] | None:
    """(which mirror, which target, how well models tell it in val, how what they say of mirrored reads correlates); None of sound ones."""
    data = subject.run.data
    source = data.raw("train")
    if not isinstance(source, Items) or "val" not in data.rows or subject.kind != "regression":
        return None
    val = sample(subject, "val")
    table, known = features(val), labels(subject, val.y)
    picture = isinstance(val.x, Tensor) and val.x.dim() == 4
    if not picture or table is None or known is None or known[1] is not None or len(val) < 2 * LEAST:
        return None
    y, half = known[0], len(val) // 2
    told = _correlations(guesses(table[:half], y[:half], table[half:], None)[0], y[half:])
    if float(told.max()) < TOLD:
        return None
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0)).tolist()[:ITEMS]
    reads = [data._batch(source.keyed([(f"mirror {number}", row) for row in order])) for number in range(READS)]
    for axis, name in ((-1, "left and right"), (-2, "upside down")):
        one, two = _pairs(reads, axis)
        if len(one) < LEAST:
            continue
        said = [guesses(table, y, part.flatten(1).cpu().float(), None)[0] for part in (one, two)]
        same = _correlations(*said)
        for column in range(y.shape[1]):
            if float(told[column]) > TOLD and float(same[column]) < OPPOSITE:
                return name, column, float(told[column]), float(same[column])
    return None


def _pairs(reads: list[Any], axis: int) -> tuple[Tensor, Tensor]:
    """Reads of items that are mirror images of each other along an axis, with the same targets."""
    one, two = [], []
    for row in range(len(reads[0])):
        first = reads[0]["x"][row]
        for read in reads[1:]:
            other = read["x"][row]
            like = other.shape == first.shape and torch.equal(read["y"][row], reads[0]["y"][row])
            if like and _alike(first.flip(axis), other) > max(LIKE, _alike(first, other)):
                one.append(first)
                two.append(other)
                break
    return (torch.stack(one), torch.stack(two)) if one else (torch.zeros(0), torch.zeros(0))


def _alike(one: Tensor, two: Tensor) -> float:
    a, b = one.flatten().float() - one.float().mean(), two.flatten().float() - two.float().mean()
    return float((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-9))


def _correlations(one: Tensor, two: Tensor) -> Tensor:
    one, two = ((part - part.mean(0)).double() for part in (one, two))
    return torch.as_tensor((one * two).sum(0) / (one.norm(dim=0) * two.norm(dim=0)).clamp(min=1e-9))
