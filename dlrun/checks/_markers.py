"""One number that stands for "missing" among measurements: -9999, 65535, 999, scaled along with the rest or left as a target.

Such a number is known by its form, whatever scaling came after: it is held exactly, over and over, at one end of a column of measurements
that hardly ever repeat, and lies several times as far from all of them as they lie from each other. What is measured has no such gap: caps,
saturated pixels and zeros of rare events touch the other values, categories and counts repeat all their values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

ROWS, LEAST, SHARE, MOST = 65536, 5, 0.002, 0.5
FAR, DISTINCT, MANY = 3.0, 32, 0.2


@dataclass(frozen=True)
class Marker:
    """The number in a column, the share of values that are it, its distance from the others in units of their range, their mean and sd."""

    value: float
    share: float
    far: float
    mean: float
    sd: float


def columns(leaf: Tensor, kept: int) -> Tensor:
    """Values [M, K] of each place along one axis (channels of pictures, features of steps), of up to 65,536 a column."""
    rows = max(1, ROWS * leaf.shape[kept] // max(leaf[0].numel(), 1))
    return leaf[:rows].detach().cpu().float().movedim(kept, -1).reshape(-1, leaf.shape[kept])


def marker(column: Tensor) -> Marker | None:
    """The marker in one column [M]; None where there is none."""
    known = column[column.isfinite()]
    for end in (known.min(), known.max()) if len(known) else ():
        at = known == end
        count, rest = int(at.sum()), known[~at]
        if not max(LEAST, SHARE * len(known)) <= count <= MOST * len(known):
            continue
        low, high = rest.min(), rest.max()
        far = float(torch.minimum((low - end).abs(), (high - end).abs()) / (high - low).clamp(min=1e-30))
        if far >= FAR and _measured(rest):
            return Marker(float(end), count / len(known), far, float(rest.mean()), float(rest.std(correction=0)))
    return None


def _measured(rest: Tensor) -> bool:
    """Whether values are measurements: many different ones, of which none takes a large part."""
    _, counts = rest[:4096].unique(return_counts=True)
    return len(counts) >= DISTINCT and int(counts.max()) <= MANY * int(counts.sum())


def markers(leaf: Tensor, kept: int) -> dict[int, Marker]:
    """The marker of each place along an axis that has one."""
    table = columns(leaf, kept)
    return {place: found for place, column in enumerate(table.unbind(1)) if (found := marker(column)) is not None}


@dataclass(frozen=True)
class Scaling:
    """How a leaf is standardised by what was measured: means and deviations along its kept axis, and markers, NaN where there is none."""

    marker: Tensor
    mean: Tensor
    sd: Tensor

    def of(self, x: Tensor) -> Tensor:
        """x standardised, the mean wherever the marker stood."""
        scaled = (x - self.mean.to(x.device)) / self.sd.to(x.device)
        return torch.where(x == self.marker.to(x.device), torch.zeros_like(scaled), scaled)

    def measured(self, x: Tensor) -> Tensor:
        """Which values were measured, of the columns that have a marker."""
        value = self.marker.to(x.device)
        return (x != value) & ~value.isnan()


def standardised(leaf: Tensor, kept: int, found: dict[int, Marker]) -> Scaling:
    """The moments of a leaf along one axis, of columns that have a marker those of the other values."""
    over = tuple(axis for axis in range(leaf.dim()) if axis != kept)
    mean, sd = leaf.mean(over, keepdim=True), leaf.std(over, keepdim=True, correction=0)
    value = torch.full_like(mean, torch.nan)
    for place, one in found.items():
        for part, number in ((value, one.value), (mean, one.mean), (sd, one.sd)):
            part.select(kept, place).fill_(number)
    return Scaling(value, mean, torch.where(sd > 1e-9 * mean.abs().clamp(min=1e-9), sd, torch.ones_like(sd)))


def of_one_split(one: Tensor, two: Tensor) -> Iterator[tuple[int, str, float, float]]:
    """(column, split, its number, share) of tables [N, K] where rows of one split alone hold a number far from all values of the other."""
    for place in range(one.shape[1]):
        pair = one[:, place], two[:, place]
        for name, (mine, theirs) in {"train": pair, "val": pair[::-1]}.items():
            yield from ((place, name, end, share) for end, share in _apart(mine, theirs))


def _apart(mine: Tensor, theirs: Tensor) -> Iterator[tuple[float, float]]:
    """(number, share) of an end of `mine` that is held over and over, by the range of `theirs` away from all values of both."""
    low, high = float(theirs.min()), float(theirs.max())
    for end in (float(mine.min()), float(mine.max())):
        count, rest = int((mine == end).sum()), mine[mine != end]
        alone = len(rest) and float((rest - end).abs().min()) > high - low
        if LEAST <= count <= MOST * len(mine) and max(low - end, end - high) > high - low > 0 and alone and _measured(theirs):
            yield end, count / len(mine)
