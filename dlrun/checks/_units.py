"""Numbers of val in another unit than those of train, told by what inputs say of them.

Spreads that differ by less than tenfold prove nothing: seasons do, too. Where inputs of both splits are distributed alike and models of
train tell val's targets well, these targets must lie along what is told: twice or half as far apart, or far higher all of them, they are
on another scale (a logarithm, a standardisation, degrees) in one of the splits. Somewhat higher they are elsewhere, too, or later.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dlrun.checks._inputs import Table
from dlrun.functional.relation import guesses

LEAST, TOLD, STEEP, HIGHER = 100, 0.75, 1.5, 4.0
MOVED, WIDER, STEADY = 0.25, 1.3, 0.25
LOST, FOUND, KEPT, CERTAIN = 0.6, 0.5, 0.9, 5.0


@dataclass(frozen=True)
class Scale:
    """How far val's targets lie apart beside what models of train tell (`times`), and how much higher, in sd of train's (`higher`)."""

    times: float
    higher: float
    told: float


def rescaled(train: Table, val: Table) -> Scale | None:
    """The scale of val's targets where it is not that of train's; None where it is, or inputs do not tell."""
    if train.classes is not None or val.classes is not None or min(len(train), len(val)) < LEAST or not _alike(train.x, val.x):
        return None
    half = len(train) // 2
    own = _lines(train.x[:half], train.y[:half], train.x[half:], train.y[half:])
    across = _lines(train.x, train.y, val.x, val.y)
    best = max(range(len(own)), key=lambda place: min(own[place].told, across[place].told))
    one, two = own[best], across[best]
    if min(one.told, two.told) < TOLD or one.times <= 0 or abs(one.higher) > STEADY or not 1 / WIDER < one.times < WIDER:
        return None
    times = two.times / one.times
    far = not 1 / STEEP < times < STEEP or abs(two.higher) > HIGHER
    return Scale(times, two.higher, two.told) if far else None


def mixed(train: Table, val: Table) -> tuple[float, float] | None:
    """(what is told of val's numbers as they are, and once columns are mixed anew), where val has them in another form; else None.

    Corners of a box are sums of its corner and its size: a few rows of val tell which sums, the others prove it.
    """
    columns = train.y.shape[1] if train.classes is None and train.y.dim() == 2 else 0
    if not 2 <= columns <= 16 or val.classes is not None or min(len(train), len(val)) < LEAST or not _alike(train.x, val.x):
        return None
    half, part = len(train) // 2, len(val) // 2
    own = [_anew(guess, train.y[half:]) for guess in guesses(train.x[:half], train.y[:half], train.x[half:], None)]
    across = [_anew(guess, val.y) for guess in guesses(train.x, train.y, val.x, None)]
    best = max(range(len(own)), key=lambda place: float(across[place][1].mean()))
    plain, new = across[best]
    lost = (plain < LOST * new) & (new > FOUND) & ((new - plain) * part**0.5 > CERTAIN)
    steady = bool((own[best][0] > KEPT * own[best][1]).all()) and bool((own[best][0] > TOLD).all())
    return (float(plain[lost].mean()), float(new[lost].mean())) if steady and bool(lost.any()) else None


def _anew(guess: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Correlations of columns of the truth with those of the guess, and with their best mixture; the second half of rows judged."""
    half = len(guess) // 2
    mean = guess[:half].mean(0)
    line = torch.linalg.lstsq(guess[:half] - mean, truth[:half] - truth[:half].mean(0)).solution
    made = [guess[half:], (guess[half:] - mean) @ line]
    held = truth[half:] - truth[half:].mean(0)
    found = []
    for part in made:
        one = part - part.mean(0)
        found.append((one * held).sum(0) / (one.norm(dim=0) * held.norm(dim=0)).clamp(min=1e-9))
    return found[0], found[1]


def _lines(x: Tensor, y: Tensor, held_x: Tensor, held_y: Tensor) -> list[Scale]:
    """Of each of the models: the mean slope of columns of held_y against what it tells, their mean offset in sd of y, the correlation."""
    mean, spread = y.mean(0), y.std(0, correction=0).clamp(min=1e-9)
    truth = (held_y - mean) / spread
    found = []
    for guess in guesses(x, y, held_x, None):
        one, two = guess - guess.mean(0), truth - truth.mean(0)
        cross = (one * two).sum(0)
        slopes = cross / one.square().sum(0).clamp(min=1e-9)
        told = cross / (one.norm(dim=0) * two.norm(dim=0)).clamp(min=1e-9)
        found.append(Scale(float(slopes.mean()), float((truth - guess).mean()), float(told.mean())))
    return found


def _alike(one: Tensor, two: Tensor) -> bool:
    """Whether inputs lie and spread alike."""
    spreads = [part.std(0, correction=0) for part in (one, two)]
    varied = spreads[0] > 1e-9
    if not bool(varied.any()):
        return False
    moved = ((two.mean(0) - one.mean(0)).abs() / spreads[0].clamp(min=1e-9))[varied]
    wider = (spreads[1] / spreads[0].clamp(min=1e-9))[varied].log().abs().exp()
    return float(moved.mean()) < MOVED and float(moved.quantile(0.9)) < 2 * MOVED and float(wider.median()) < WIDER
