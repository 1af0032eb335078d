"""Columns that tell the target for a reason that will not last: the row's number in a sorted file, a code made of the rows' own targets.

A number of the row is known by its form: all values differ and stand on an even grid, as no measurement does. It is a leak where targets
lie in blocks along it, and the other columns tell them as well (a curve over time has no others).

A column that is filled in for one outcome alone holds one value in all rows of the others: no measurement has such exceptionless zeros
beside many values. One that is a line of the targets' logarithm, root, square, inverse or rank is the target on another scale.

A column that was made of the targets of train tells these far better than it tells val's, and than columns of val tell val's: in val by
itself too, which no drift between the splits explains, while the other columns tell both alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dlrun.checks._inputs import Table, is_integer, parts
from dlrun.checks._rows import Rows
from dlrun.functional.relation import Relation, relation, within

LEAST, MOST_COLUMNS, DENSE, BLOCKS, STRAIGHT = 100, 64, 0.3, 3, 0.999
STRONG, LOST, KEPT, CERTAIN = 0.5, 0.5, 0.6, 6.0
BINS, STEPS = 12, 1024
FILLED, SELDOM, DIFFER, SPREAD = 40, 0.4, 0.5, 0.9
BLANK, BLANKS = 0.2, 0.34
ONE_LINE = 1e-6


def row_numbers(table: Tensor, y: Tensor, classes: int | None) -> list[int]:
    """Columns of table [N, D] that number the rows of a file which was sorted by the target."""
    if len(table) < LEAST:
        return []
    return [column for column in range(table.shape[1]) if _numbers_rows(table[:, column]) and _blocks(table[:, column], y, classes)]


def _numbers_rows(values: Tensor) -> bool:
    """Whether all values differ and are multiples of one step, of which they fill a good part."""
    ordered = values.double().sort().values
    gaps = ordered[1:] - ordered[:-1]
    span, step = float(ordered[-1] - ordered[0]), float(gaps.min())
    precision = 1e-6 * float(ordered.abs().max())
    if step <= 4 * precision or len(ordered) * step < DENSE * span:
        return False
    step = span / round(span / float(gaps[gaps < 1.5 * step].mean()))
    return float((gaps / step - (gaps / step).round()).abs().max()) < 0.05 + precision / step


def _blocks(values: Tensor, y: Tensor, classes: int | None) -> bool:
    """Whether targets lie in few blocks along the values, or rise with them."""
    along = y[values.argsort()]
    if classes is None:
        ranks = torch.arange(len(y)).double()
        placed = [torch.empty_like(ranks).scatter_(0, column.argsort(stable=True), ranks) for column in along.double().T]
        return any(abs(float(torch.corrcoef(torch.stack((ranks, place)))[0, 1])) > STRAIGHT for place in placed)
    present = int(y.unique().numel())
    shares = torch.bincount(y.long()).double() / len(y)
    return present > 1 and int((along[1:] != along[:-1]).sum()) <= BLOCKS * present < 0.2 * len(y) * float(1 - shares.square().sum())


def by_step(rows: Rows) -> tuple[Tensor, list[str], Tensor, int | None] | None:
    """(features, their names, targets, classes) of some steps of series, or nodes of graphs, with a target each; None of others."""
    y = rows.y
    if not isinstance(y, Tensor) or y.dim() != 2 or y.shape[1] < 2:
        return None
    leaves = {
        name: leaf
        for name, leaf in parts(rows.x).items()
        if leaf.dim() in (2, 3) and leaf.shape[:2] == y.shape and leaf[0, 0].numel() <= MOST_COLUMNS
    }
    mask, counted = rows.batch.get("mask"), y >= 0 if is_integer(y) else y.isfinite()
    counted = counted & mask.bool() if isinstance(mask, Tensor) and mask.shape == y.shape else counted
    columns = [(name, leaf.reshape(*y.shape, -1)[counted].cpu()) for name, leaf in leaves.items() if leaf.dtype != torch.bool]
    names = [f"{name}[..., {place}]" for name, leaf in columns for place in range(leaf.shape[1])]
    if not 2 <= len(names) <= MOST_COLUMNS or int(counted.sum()) < LEAST:
        return None
    table, target = torch.cat([leaf.double() for _, leaf in columns], 1), y[counted].cpu()
    some = torch.randperm(len(target), generator=torch.Generator().manual_seed(0))[:STEPS]
    if is_integer(y):
        return table[some], names, target[some], int(target.max()) + 1
    return table[some], names, target[some].float()[:, None], None


def filled_for(flat: Tensor, y: Tensor) -> list[tuple[int, int]]:
    """(column, class) of columns that hold one and the same value in every row of a class, and hardly ever in other rows.

    There nearly all values differ: an amount that is written down for one outcome only. Pixels are blank for a class too, and so are many
    others of them.
    """
    found: list[tuple[int, int]] = []
    usual = (flat == flat.mode(0).values).double().mean(0)
    many = torch.tensor([len(column.unique()) for column in flat.unbind(1)]) >= DIFFER * (1 - usual) * len(flat)
    if float(((usual > BLANK) & many).double().mean()) > BLANKS:
        return found
    for label in y.unique().tolist():
        mine, others = flat[y == label], flat[y != label]
        if min(len(mine), len(others)) < FILLED or others.shape[1] > MOST_COLUMNS:
            continue
        still = (mine == mine[:1]).all(0)
        seldom = (others == mine[:1]).double().mean(0) < SELDOM
        for column in (still & seldom).nonzero().flatten().tolist():
            values = others[others[:, column] != mine[0, column], column]
            if len(values.unique()) >= DIFFER * len(values):
                found.append((int(column), int(label)))
    return found


def ranked_as(flat: Tensor, y: Tensor) -> list[int]:
    """Columns [N, D] that are the targets [N, 1] on another scale: their logarithm, root, square, inverse or rank, or the other way round.

    The same order alone is no proof: targets made up as a smooth function of one column have it, too.
    """
    if y.shape[1] != 1 or len(y) < LEAST or len(y.unique()) < SPREAD * len(y):
        return []
    ordered = flat[y[:, 0].argsort()]
    steps = ordered[1:] - ordered[:-1]
    same = ((steps > 0).all(0) | (steps < 0).all(0)).nonzero().flatten().tolist()
    return [int(column) for column in same if rescaled(flat[:, column], y[:, 0])]


def rescaled(one: Tensor, other: Tensor) -> bool:
    """Whether one of two columns [N] is a line of the other's logarithm, root, square, inverse or rank."""
    rank = torch.arange(len(one), dtype=one.dtype)
    for x, y in ((one, other), (other, one)):
        scales = [x.square(), rank[x.argsort().argsort()]] if bool((x > 0).all()) else [rank[x.argsort().argsort()]]
        scales += [x.log(), x.sqrt(), 1 / x] if bool((x > 0).all()) else []
        if any(1 - float(torch.corrcoef(torch.stack((scale, y)))[0, 1]) ** 2 < ONE_LINE for scale in scales):
            return True
    return False


@dataclass(frozen=True)
class Own:
    """A column that tells train's targets, `train` of them, and not val's, `val`; what the others tell of both."""

    column: int
    train: Relation
    val: Relation
    others: tuple[float, float]


def own_targets(train: Table, val: Table) -> Own | None:
    """The column that was made of train's own targets; None where there is none."""
    wide = train.x.shape[1]
    if not 2 <= wide <= MOST_COLUMNS or min(len(train), len(val)) < LEAST or (train.classes is None and train.y.shape[1] > 1):
        return None
    told = torch.stack([_told(train, column) for column in range(wide)])
    column = int(told.argmax())
    if float(told[column]) < STRONG:
        return None
    ours, theirs = (within(table.x[:, column : column + 1], table.y, table.classes) for table in (train, val))
    across = relation(train.x[:, column : column + 1], train.y, val.x[:, column : column + 1], val.y, train.classes)
    certain = (ours.strength - max(theirs.strength, across.strength)) * len(val) ** 0.5
    if ours.strength < STRONG or max(theirs.strength, across.strength) > LOST * ours.strength or certain < CERTAIN:
        return None
    rest = [place for place in range(wide) if place != column]
    one = within(train.x[:, rest], train.y, train.classes)
    two = relation(train.x[:, rest], train.y, val.x[:, rest], val.y, train.classes)
    if one.z < 4 or two.z < 4 or two.strength < KEPT * one.strength:
        return None
    return Own(column, ours, theirs, (one.strength, two.strength))


def _told(table: Table, column: int) -> Tensor:
    """The share of the target's variance that the means in twelve bins of a column explain."""
    y = torch.nn.functional.one_hot(table.y.long(), table.classes).float() if table.classes else table.y.float()
    place = table.x[:, column].contiguous()
    edges = place.quantile(torch.linspace(0, 1, BINS + 1)[1:-1])
    one_hot = torch.nn.functional.one_hot(torch.bucketize(place, edges.unique()), BINS + 1).float()
    means = one_hot.T @ y / one_hot.sum(0).clamp(min=1)[:, None]
    left = (y - one_hot @ means).square().sum()
    return 1 - left / (y - y.mean(0)).square().sum().clamp(min=1e-12)
