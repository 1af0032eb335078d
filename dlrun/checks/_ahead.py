"""Columns that were computed with the target: parts that add up to it, and means over time that reach up to the very row or beyond it.

A target that is an exact sum (or product, where all are positive) of a few columns is told by an identity: a total and its parts, a price
and its taxes, a centred mean and two of its three readings. So is one that a formula made of its inputs, and that is meant. What tells
them apart are the columns that are not needed: measured beside a target they tell some of it, which columns that a formula leaves out do
not; and not all of it, as columns do that are one curve.

Rows in the order of time show more. Targets are then a series, and a column that is a mean with weights of this series, exactly, which
takes in the row's own target, was made from it. Of its past alone it may be made. A series that its own past tells exactly (a noise-free
wave) says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dlrun.functional.relation import within

EXACT, USED, WIDEST, FEWEST = 1e-7, 4, 256, 3
TOLD, ALL, CURVE, CERTAIN = 0.25, 0.97, 0.95, 6.0
REACH, ORDERED, LIGHT, OWN = 14, 0.2, -0.02, 0.02
LEAST = 200


@dataclass(frozen=True)
class Line:
    """Columns of which the target is the sum (or the product), and what the others tell of it."""

    columns: list[int]
    product: bool
    others: float


def adds_up(table: Tensor, y: Tensor) -> Line | None:
    """The few columns of table [N, D] that give y [N, 1] exactly, where others tell some of it; None where there are none."""
    wide = table.shape[1]
    if y.shape[1] != 1 or not FEWEST < wide <= WIDEST or len(table) < max(LEAST, 3 * wide) or len(y.unique()) < 0.2 * len(y):
        return None
    table, y = table.double(), y.double()
    columns = _needed(table, y)
    product = False
    if not columns and bool((y > 0).all()):
        positive = (table > 0).all(0).nonzero().flatten()
        found = _needed(table[:, positive].log(), y.log()) if len(positive) > 1 else []
        columns, product = [int(positive[place]) for place in found], True
    rest = [place for place in range(wide) if place not in columns]
    if not 1 < len(columns) <= USED or len(rest) < FEWEST:
        return None
    if any(_told(table[:, rest], table[:, [column]]) > ALL for column in columns):
        return None  # one curve: each column gives the others
    if any(_told(table[:, columns], table[:, [place]]) > CURVE for place in rest):
        return None  # made of the same numbers: powers, products
    told = within(table[:, rest].float(), y.float(), None)
    return Line(columns, product, told.strength) if told.z > CERTAIN and TOLD < told.strength < ALL else None


def _needed(table: Tensor, y: Tensor) -> list[int]:
    """The columns without which y is no exact sum; [] where it is none."""
    kept = (table.std(0, correction=0) > 1e-9 * table.abs().amax(0).clamp(min=1e-12)).nonzero().flatten().tolist()
    if not kept or _left(table[:, kept], y) > EXACT:
        return []
    for column in list(kept):
        fewer = [place for place in kept if place != column]
        if fewer and _left(table[:, fewer], y) <= EXACT:
            kept = fewer
    return [int(place) for place in kept]


def _left(table: Tensor, y: Tensor) -> float:
    """The share of y's variance that a line leaves."""
    x, target = table - table.mean(0), y - y.mean(0)
    x = x / x.norm(dim=0).clamp(min=1e-12)
    solved = torch.linalg.lstsq(x, target).solution
    return float((target - x @ solved).square().sum() / target.square().sum().clamp(min=1e-24))


def _told(table: Tensor, y: Tensor) -> float:
    return within(table.float(), y.float(), None).strength


def looks_ahead(table: Tensor, y: Tensor) -> list[int]:
    """Columns of table [N, D], rows in the order they are stored, that are means with weights of
    targets y [N, ...], the row's own among them."""
    series, count = y.double()[:, 0], len(y) - 2 * REACH
    if count < 6 * REACH or not 2 <= table.shape[1] <= WIDEST or len(series.unique()) < 0.2 * len(series):
        return []
    series = (series - series.mean()) / series.std().clamp(min=1e-12)
    if float((series[1:] * series[:-1]).mean()) < ORDERED:
        return []
    lagged = series.unfold(0, 2 * REACH + 1, 1)  # [count, 2 REACH + 1], the row's own target in the middle
    past = lagged[:, :REACH]
    if _left(past, series[REACH:-REACH, None]) < 1e-4:
        return []
    x = table.double()[REACH:-REACH]
    return [column for column in range(x.shape[1]) if _mean_of(lagged, past, x[:, [column]])]


def _mean_of(lagged: Tensor, past: Tensor, column: Tensor) -> bool:
    """Whether a column is a mean with weights of the series around each row, and needs the row's own target."""
    if float(column.std()) < 1e-9 * float(column.abs().max()):
        return False
    middle = column - column.mean()
    weights = torch.linalg.lstsq(lagged - lagged.mean(0), middle).solution[:, 0]
    left = float((middle[:, 0] - (lagged - lagged.mean(0)) @ weights).square().sum() / middle.square().sum())
    size = float(weights.abs().max())
    own = float(weights[REACH])
    several = int((weights > OWN * size).sum()) > 1
    return left < 1e-6 and float(weights.min()) > LIGHT * size and own > OWN * size and several and _left(past, column) > 1e-4
