"""Does an augmentation turn rows of one class into rows of another? A mirror where left and right are classes, half a turn of a 6.

A small model (ridge on random features, of clean rows, pictures also shifted by two pixels) tells two classes apart; then it judges several
reads of the same train rows. Noise, crops and shifts make it less sure. What exchanges two classes leaves it as sure as ever, and wrong in
many reads of the very same rows, in both directions. Source: A. Rahimi, B. Recht, Weighted sums of random kitchen sinks, 2008.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

WIDEST, KITCHEN = 256, 768
ROWS, FOLDS, FAR = 256, 4, 2
LEAST, CLEAN, TURNED, MORE = 12, 0.25, 0.25, 0.15
"""Rows of a class; the largest share of clean rows taken for the other class, the least of reads, and how many more these must be."""
SURE, WRONG, BOTH, BALANCED, MOST = 0.65, 0.4, 0.6, 0.4, 0.7
"""Over the mean margin of clean rows: the least size of margins, of those of mistaken reads (in either direction, and in both on average),
and the largest mean margin; then the least share of a class's errors that go to the other."""


@dataclass
class Swap:
    """Two classes, and the share of clean rows and of reads of either that are taken for the other (the smaller of both directions)."""

    classes: tuple[int, int]
    clean: float
    turned: float


def swapped(clean: Tensor, y: Tensor, reads: list[Tensor], drawn_y: Tensor, classes: int) -> Swap | None:
    """The pair of classes that reads exchange most, or None. `clean` [N, ...] with classes `y`; each of `reads` [M, ...] with `drawn_y`."""
    clean, y = clean[:ROWS], y[:ROWS]
    fold = torch.arange(len(clean)) % FOLDS
    models = [_Model(clean[fold != k], y[fold != k], classes) for k in range(FOLDS)]
    held = torch.stack([model(clean) for model in models])[fold, torch.arange(len(clean))]
    told = torch.stack([torch.stack([model(read) for model in models]).mean(0) for read in reads])
    found = [swap for a, b in _pairs(told, drawn_y, y, classes) if (swap := _swap(held, y, told, drawn_y, a, b)) is not None]
    return max(found, key=lambda swap: swap.turned, default=None)


def _pairs(told: Tensor, drawn_y: Tensor, y: Tensor, classes: int) -> Iterator[tuple[int, int]]:
    """Pairs of classes with rows enough, of which reads of the one are often taken for the other and the other way round."""
    table = torch.zeros(classes, classes)
    guesses = told.argmax(2)
    table.index_put_((drawn_y.repeat(len(told)), guesses.flatten()), torch.ones(guesses.numel()), accumulate=True)
    counts = torch.minimum(torch.bincount(drawn_y, minlength=classes), torch.bincount(y, minlength=classes))
    wrong = table - table.diag().diag()
    to = wrong.argmax(1)
    for a in range(classes):
        b = int(to[a])
        mutual = a < b and int(to[b]) == a and min(counts[a], counts[b]) >= LEAST
        often = min(table[a, b] / table[a].sum(), table[b, a] / table[b].sum()) >= TURNED
        if mutual and often and min(wrong[a, b] / wrong[a].sum(), wrong[b, a] / wrong[b].sum()) >= MOST:
            yield a, b


def _swap(held: Tensor, y: Tensor, told: Tensor, drawn_y: Tensor, a: int, b: int) -> Swap | None:
    """What is said of the classes a and b: that clean rows are told apart, and reads are as sure and mistaken."""
    clean, turned, mistaken = 0.0, 1.0, 0.0
    for own, other in ((a, b), (b, a)):
        plain = (held[:, own] - held[:, other])[y == own]
        margins = (told[:, :, own] - told[:, :, other])[:, drawn_y == own]
        usual, sure = float(plain.mean()), float(margins.abs().mean())
        both = float(((margins > 0).any(0) & (margins < 0).any(0)).float().mean())
        wrong = margins[margins < 0]
        if usual <= 0 or sure < SURE * usual or float(margins.mean()) > BALANCED * usual or both < TURNED:
            return None
        if not len(wrong) or float(-wrong.median()) < WRONG * usual:
            return None
        mistaken += float(-wrong.median()) / usual / 2
        clean, turned = max(clean, float((plain < 0).float().mean())), min(turned, float((margins < 0).float().mean()))
    certain = clean <= CLEAN and turned >= max(TURNED, clean + MORE) and mistaken >= BOTH
    return Swap((a, b), clean, turned) if certain else None


class _Model:
    """Scores of classes from random features, by least squares."""

    def __init__(self, x: Tensor, y: Tensor, classes: int) -> None:
        generator = torch.Generator().manual_seed(0)
        flat = x.reshape(len(x), -1).float()
        self.middle, self.spread = flat.mean(0), flat.std().clamp_min(1e-12)
        width = flat.shape[1]
        self.narrow = torch.randn(width, WIDEST, generator=generator) / WIDEST**0.5 if width > WIDEST else None
        self.mixed = torch.randn(min(width, WIDEST), KITCHEN, generator=generator) / min(width, WIDEST) ** 0.5
        self.offset = torch.rand(KITCHEN, generator=generator) * 2 - 1
        copies = list(_shifted(x))
        made, targets = self._made(torch.cat(copies)), torch.nn.functional.one_hot(y.long(), classes).float().repeat(len(copies), 1)
        self.level, self.mean = targets.mean(0), made.mean(0)
        made = made - self.mean
        penalty = 0.01 * float(made.square().sum()) / KITCHEN + 1e-6
        self.weights = torch.linalg.solve(made.T @ made + penalty * torch.eye(KITCHEN), made.T @ (targets - self.level))

    def _made(self, x: Tensor) -> Tensor:
        flat = (x.reshape(len(x), -1).float() - self.middle) / self.spread
        flat = flat if self.narrow is None else flat @ self.narrow
        made: Tensor = (flat @ self.mixed + self.offset).relu()
        return made

    def __call__(self, x: Tensor) -> Tensor:
        scores: Tensor = (self._made(x) - self.mean) @ self.weights + self.level
        return scores


def _shifted(x: Tensor) -> Iterator[Tensor]:
    """Pictures as they are and shifted by up to two pixels; other rows as they are."""
    yield x
    if x.dim() == 4:
        ways = range(-FAR, FAR + 1)
        for down, right in ((d, r) for d in ways for r in ways if (d or r) and (d + r) % 2 == 0):
            yield x.roll((down, right), (2, 3))
