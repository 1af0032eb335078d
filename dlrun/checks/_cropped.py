"""Random crops of pictures whose target is a total over the whole picture: spots that are counted, areas, amounts.

What a crop leaves out is still counted by the target. That a target is a total is read off rows that nobody transforms: all parts of the
picture add to it, each about as much. That reads of train are crops shows in that totals of two reads of one row differ, while their mean
over all rows is not lower (nothing is darkened or wiped out), details are as large or larger (nothing is shrunk), and the two reads are not
one picture, turned or brightened.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from dlrun.checks._frame import Subject
from dlrun.checks._reads import Read, given

PARTS, LEAST = 4, 60
TOLD, EACH, APART, LEVEL, HIGHER = 0.85, 0.3, 0.2, 0.3, 1.0
WORSE, LIKE, SHRUNK = 3.0, 0.9, 0.03


@dataclass(frozen=True)
class Cropped:
    """How well the total tells the target in rows that nobody transforms, and in reads of train; how far totals of a row's reads differ."""

    clean: float
    drawn: float
    apart: float


def cropped(subject: Subject) -> Cropped | None:
    """What is found where crops lose what the target counts; else None."""
    if subject.kind != "regression" or subject.loss_task is None:
        return None
    known = given(subject)
    if known is None or known[0].x.dim() != 4 or known[0].numbers.shape[1] != 1 or min(len(read.x) for read in known[:2]) < LEAST:
        return None
    clean, drawn, *reads = known
    if len(reads) < 2 or any(not torch.equal(read.numbers, reads[0].numbers) for read in reads):
        return None
    half = len(clean.x) // 2
    weights, mean, level = _line(clean, slice(0, half))
    held = _correlation(_total(clean.x[half:], weights, mean), clean.numbers[half:, 0])
    if held < TOLD or float(weights.min()) < EACH * float(weights.mean()):
        return None
    asked = _correlation(_total(drawn.x, weights, mean), drawn.numbers[:, 0])
    spread = float(drawn.numbers.std())
    away = float(_total(drawn.x, weights, mean).mean() + level - drawn.numbers.mean()) / max(spread, 1e-9)
    totals = torch.stack([_total(read.x, weights, mean) for read in reads])
    apart = float(totals.std(0).mean()) / max(spread, 1e-9)
    lost = 1 - asked**2 > WORSE * (1 - held**2) and apart > APART and -LEVEL < away < HIGHER
    geometric = _detail(drawn.x) > _detail(clean.x) - SHRUNK and _alike(reads[0].x, reads[1].x) < LIKE
    return Cropped(held, asked, apart) if lost and geometric else None


def _line(read: Read, rows: slice) -> tuple[Tensor, Tensor, float]:
    """(weight of each part of the picture, mean parts, mean target) by ridge regression."""
    x, y = _parts(read.x[rows]), read.numbers[rows, 0].double()
    mean, level = x.mean(0), float(y.mean())
    x = x - mean
    inner = x.T @ x
    penalty = 0.02 * float(inner.trace()) / len(inner) * torch.eye(len(inner), dtype=torch.float64)
    weights: Tensor = torch.linalg.solve(inner + penalty, x.T @ (y - level))
    return (weights if float(weights.sum()) > 0 else -weights), mean, level


def _parts(x: Tensor) -> Tensor:
    return adaptive_avg_pool2d(x.double().mean(1, keepdim=True), PARTS).flatten(1)


def _total(x: Tensor, weights: Tensor, mean: Tensor) -> Tensor:
    total: Tensor = (_parts(x) - mean) @ weights
    return total


def _correlation(one: Tensor, two: Tensor) -> float:
    return abs(float(torch.corrcoef(torch.stack((one.double(), two.double())))[0, 1].nan_to_num()))


def _detail(x: Tensor) -> float:
    """Correlation of neighbours: the larger details are, the higher."""
    middle = x - x.mean((-1, -2), keepdim=True)
    both = (middle[..., 1:] * middle[..., :-1]).mean() + (middle[..., 1:, :] * middle[..., :-1, :]).mean()
    return float(both / (2 * middle.square().mean()).clamp(min=1e-12))


def _alike(one: Tensor, two: Tensor) -> float:
    """The median, over rows, of the largest correlation of two reads, the second also mirrored and turned."""
    square = two.shape[-1] == two.shape[-2]
    turned = [two.rot90(turn, (-2, -1)) for turn in range(0, 4, 1 if square else 2)]
    ways = [*turned, *(part.flip(-1) for part in turned)]
    flat = one.flatten(1) - one.flatten(1).mean(1, keepdim=True)
    found = []
    for way in ways:
        other = way.flatten(1) - way.flatten(1).mean(1, keepdim=True)
        found.append((flat * other).sum(1) / (flat.norm(dim=1) * other.norm(dim=1)).clamp(min=1e-9))
    return float(torch.stack(found).amax(0).median())
