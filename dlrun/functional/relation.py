"""How much of a target simple models find in the inputs, judged on rows they have not seen.

Source: T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning, 2009, sections 3.4.1 (ridge), 13.3 (nearest
neighbours); A. Rahimi, B. Recht, Weighted sums of random kitchen sinks, 2008 (ridge on random features); J. Cohen, A coefficient of
agreement for nominal scales, 1960 (agreement beyond that of chance, so that a frequent class is no merit).

Three models that fit in milliseconds and fail on different data: a line, nearest neighbours, random features. What none of them finds may
still be there (parity, images of many kinds); what one finds is there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

WIDEST, KITCHEN, NEIGHBOURS = 256, 512, 5
CUT, LOST = 5.0, 0.25


@dataclass(frozen=True)
class Relation:
    """`strength`: 0 by chance, 1 all of it (kappa of classes, correlation of numbers); `z` in standard errors of chance; `rows` judged."""

    strength: float
    z: float
    rows: int

    def clear(self, least: float = 0.3) -> bool:
        """Whether it is certain (one in 10^9) and no small one."""
        return self.z > 6 and self.strength > least

    def absent(self) -> bool:
        """Whether it may well be chance, or the contrary of a relation."""
        return self.z < 3

    def lost(self, strong: Relation) -> bool:
        """Whether it is absent, and small beside a `strong` one."""
        return self.absent() and self.strength < LOST * strong.strength


def relation(x: Tensor, y: Tensor, held_x: Tensor, held_y: Tensor, classes: int | None) -> Relation:
    """What models fitted to x [N, D] and y tell of held_y from held_x.

    y are whole numbers in 0..classes-1 [N], or with `classes` None numbers [N, K]. The best of the three models counts.
    """
    return max((judged(guess, held_y, classes) for guess in guesses(x, y, held_x, classes)), key=lambda one: one.z)


def judged(guess: Tensor, held_y: Tensor, classes: int | None) -> Relation:
    """How far one guess, scores of classes or numbers [M, K], agrees with held_y."""
    return _kappa(guess.argmax(1), held_y, classes) if classes else _correlation(guess, held_y.float().reshape(len(held_y), -1))


def guesses(x: Tensor, y: Tensor, held_x: Tensor, classes: int | None) -> list[Tensor]:
    """What each of the three models fitted to x and y says of held_x: scores of classes, or standardised numbers, [M, K]."""
    x, held_x = _alike(x, held_x)
    targets = _one_hot(y, classes) if classes else _standard(y.float().reshape(len(y), -1))[0]
    mixed, offset = _kitchen(x.shape[1])
    mixture = _ridge((x @ mixed + offset).relu(), targets, (held_x @ mixed + offset).relu())
    return [_ridge(x, targets, held_x), _nearest(x, targets, held_x), mixture]


def within(x: Tensor, y: Tensor, classes: int | None) -> Relation:
    """The relation inside one set of rows, in random order already: each half judged by models fitted to the other."""
    half = len(x) // 2
    one = relation(x[:half], y[:half], x[half:], y[half:], classes)
    two = relation(x[half:], y[half:], x[:half], y[:half], classes)
    return Relation((one.strength + two.strength) / 2, (one.z + two.z) / 2**0.5, one.rows + two.rows)


def _standard(x: Tensor, like: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    like = x if like is None else like
    mean, spread = like.mean(0), like.std(0, correction=0)
    spread = torch.where(spread > 1e-6 * (mean.abs() + 1e-30), spread, torch.ones_like(spread))
    return (x - mean) / spread, mean, spread


def _alike(x: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """Both standardised by the first, far values cut, wide rows projected."""
    plain, mean, spread = _standard(x.float())
    other = (held.float() - mean) / spread
    plain, other = plain.clamp(-CUT, CUT), other.clamp(-CUT, CUT)
    if x.shape[1] <= WIDEST:
        return plain, other
    matrix: Tensor = torch.randn(x.shape[1], WIDEST, generator=torch.Generator().manual_seed(0)) / WIDEST**0.5
    return plain @ matrix, other @ matrix


def _kitchen(width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    drawn: Tensor = torch.randn(width, KITCHEN, generator=generator) / width**0.5
    return drawn, torch.rand(KITCHEN, generator=generator) * 2 - 1


def _one_hot(y: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(y.long(), classes).float()


def _ridge(x: Tensor, targets: Tensor, held: Tensor) -> Tensor:
    """Least squares with a penalty of a tenth of the mean eigenvalue, in the smaller of its two forms."""
    middle, level = x.mean(0), targets.mean(0)
    x, held, targets = x - middle, held - middle, targets - level
    penalty = 0.1 * float(x.square().sum()) / min(x.shape) + 1e-6
    if len(x) <= x.shape[1]:
        weights: Tensor = x.T @ torch.linalg.solve(x @ x.T + penalty * torch.eye(len(x)), targets)
    else:
        weights = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]), x.T @ targets)
    return held @ weights + level


def _nearest(x: Tensor, targets: Tensor, held: Tensor) -> Tensor:
    near = torch.cdist(held, x).topk(min(NEIGHBOURS, len(x)), largest=False).indices
    return targets[near].mean(1)


def _kappa(guess: Tensor, truth: Tensor, classes: int) -> Relation:
    right = float((guess == truth).float().mean())
    shares = [torch.bincount(labels, minlength=classes).double() / len(truth) for labels in (guess, truth)]
    chance = float((shares[0] * shares[1]).sum())
    if chance > 1 - 1e-9:
        return Relation(0.0, 0.0, len(truth))
    error = (chance * (1 - chance) / len(truth)) ** 0.5
    return Relation((right - chance) / (1 - chance), (right - chance) / error, len(truth))


def _correlation(guess: Tensor, truth: Tensor) -> Relation:
    one, two = _standard(guess)[0], _standard(truth)[0]
    strength = float((one * two).mean(0).mean())
    return Relation(strength, strength * len(truth) ** 0.5, len(truth))
