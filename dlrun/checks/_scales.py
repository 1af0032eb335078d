"""Facts of scale that hold of one split alone: one factor for all columns, columns that stand still, rows each scaled by themselves.

A shift between splits is usual; that all columns of pictures, or of a table whose columns have little to do with each other, spread wider
by one and the same factor of three is not. Nor do columns that vary in one split stand still in the other, most of them at once; nor has
each row of one split mean 0 and sd 1 (or spans 0..1), to a thousandth, while rows of the other, which nobody draws, have their own levels.
"""

from __future__ import annotations

import torch
from torch import Tensor

COLUMNS, LEAST, FEWEST = 512, 100, 32
FACTOR, EVEN, SIGMAS = 2.5, 0.1, 3.0
ALIKE, MANY, USUAL, HALF, SOME = 0.35, 4, 0.3, 0.5, 8
EXACT, NEARLY, ALL, LEVELS, LONG = 2e-3, 0.05, 0.98, 0.2, 16


def one_factor(one: Tensor, two: Tensor, pictures: bool) -> float:
    """By what factor all columns of `two` [M, D] spread as against `one` [N, D], where it is one and the same and far from 1; else 0."""
    one, two = _some(one), _some(two)
    if min(len(one), len(two)) < LEAST or one.shape[1] < SOME:
        return 0.0
    spreads = [part.std(0, correction=0) for part in (one, two)]
    varied = (spreads[0] > 1e-9) & (spreads[1] > 1e-9)
    if float(varied.double().mean()) < HALF or (not pictures and _related(one[:, varied])):
        return 0.0
    ratio = (spreads[1] / spreads[0].clamp(min=1e-12))[varied].log()
    low, middle, high = ratio.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
    noise = (0.5 / len(one) + 0.5 / len(two)) ** 0.5
    factor = float(torch.tensor(middle).exp())
    return factor if high - low < EVEN + SIGMAS * noise and not 1 / FACTOR < factor < FACTOR else 0.0


def _related(x: Tensor) -> bool:
    """Whether columns go with each other, as steps of one series do."""
    x = (x - x.mean(0)) / x.std(0, correction=0).clamp(min=1e-9)
    both = (x.T @ x / len(x)).abs()
    rest = both[~torch.eye(len(both), dtype=torch.bool)]
    return not len(rest) or float(rest.mean()) > ALIKE


def still(one: Tensor, two: Tensor) -> float:
    """Of the columns that vary in `one` [N, D], no value more frequent than half: the share that is constant in `two`; 0 of few."""
    one, two = _some(one), _some(two)
    if min(len(one), len(two)) < FEWEST:
        return 0.0
    usual = (one == one.mode(0).values).double().mean(0)
    dense = usual < USUAL
    if int(dense.sum()) < MANY:
        return 0.0
    return float((two == two[:1]).all(0)[dense].double().mean())


def own_scale(one: Tensor, two: Tensor) -> str:
    """How each row of `two` [M, D] was scaled by itself, and rows of `one` [N, D] were not, which have levels of their own; else ""."""
    if one.shape[1] < LONG or min(len(one), len(two)) < FEWEST or min(_fractions(one), _fractions(two)) < HALF:
        return ""
    kinds = {"mean 0 and sd 1": _by_moments, "a least value of 0 and a largest of 1": _by_range, "length 1": _by_length}
    for kind, level in kinds.items():
        (levels, sizes), (theirs, others) = level(one), level(two)
        middle = float(others.median())
        exact = float(((theirs.abs() < EXACT) & ((others - middle).abs() < EXACT)).double().mean()) > ALL and abs(middle - 1) < NEARLY
        wide = float(sizes.clamp(min=1e-12).log().std()) > LEVELS or float((levels / sizes.median().clamp(min=1e-12)).std()) > LEVELS
        if exact and wide:
            return kind
    return ""


def _fractions(x: Tensor) -> float:
    """The share of values that are no whole numbers: counts and codes have a least value of 0 and a largest of 1 by themselves."""
    return float((x != x.round()).double().mean())


def _by_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean(1), x.std(1, correction=0)


def _by_range(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.amin(1), x.amax(1) - x.amin(1)


def _by_length(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros(len(x)), x.norm(dim=1)


def _some(x: Tensor) -> Tensor:
    return x[:, torch.linspace(0, x.shape[1] - 1, min(x.shape[1], COLUMNS)).long()]
