"""Inputs of val that are not made as those of train are: not normalised, or by other numbers, inverted, channels in another order.

The catalogue's distances (a mean one sd away, a classifier that tells the splits apart) fire on splits by time, on subjects nobody saw,
on augmentation in train alone, all of them right. So a shift alone is told. A warning takes proof that it is one of form: what models
learn from train says little of val as it is, and much more once val is put through one plain change (moments of train, inverted, channels
reversed, turned). Where labels cannot say, the scale must differ tenfold in most columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import Batch, leaves
from dlrun.checks._codes import renumbered, steps_renumbered, words_renumbered
from dlrun.checks._filling import filled_otherwise
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._inputs import Table, features, parts, sample, tables, told
from dlrun.checks._markers import of_one_split
from dlrun.checks._rows import Rows
from dlrun.checks._scales import one_factor, own_scale, still
from dlrun.data.sources import Items

LEAST, FEWEST = 32, 100
TOLD, TENFOLD, THREEFOLD = 1.0, 10.0, 3.0
REORDERED, MOSTLY = "with its columns in another order, as they tell the target", 0.8
"""That order is read off few rows, and is asked only where train tells nothing of val as it is."""
FITTED, MANY, MOST_COLUMNS, MOST_NUMBERS = 0.01, 0.8, 64, 2**22
LOST, BACK, HALF, READ, LONG = 0.75, 0.9, 0.5, 8, 16
FOLLOWS = ("item_stability", "constant_input", "finite_data", "label_histogram", "split_leakage")
RULE = (
    f"warning: val is told less than {LOST:g} x as well as train tells itself, and over {BACK:g} x after one change of form; or without "
    f"labels, most columns spread {TENFOLD:g} x more or less than in train, or {THREEFOLD:g} x where one split alone spans 0..1 or "
    "has mean 0 and sd 1, or lies far away, or all columns 2.5 x by one factor; or most columns of one "
    "split stand still, or its rows alone are scaled one by one; or tokens are "
    "padded at different ends, or a third unknown in one split; or one split alone holds a number over and over, a range of the other "
    "away from it"
)


@check(stage="data", recipe="Hacker's Guide: are train and val of one kind?", follows=FOLLOWS)
def split_input_shift(subject: Subject) -> Finding:
    """Moments of the columns of up to 1,024 rows of train and val, and what models of train tell of val, as it is and changed."""
    if "val" not in subject.run.data.rows or (subject.kind == "graph" and not tables(subject)):
        return skipped("it takes a val split of rows")
    codes = renumbered(subject) or words_renumbered(subject) or steps_renumbered(subject)
    if codes:
        return _anew(*codes)
    rows = {split: sample(subject, split) for split in ("train", "val")}
    if filled := _filled(subject, rows):
        return filled
    words = _words(rows["train"].x)
    if words and subject.kind not in ("classification", "binary", "regression"):
        return skipped("inputs are words or categories")
    rows = {split: _numbers(part) for split, part in rows.items()}
    one, two = (features(part) for part in rows.values())
    if one is None or two is None or min(len(one), len(two)) < LEAST or one.shape[1] != two.shape[1]:
        return skipped(f"it takes {LEAST} rows of numbers of each split, equally long")
    moved, wider = _moments(one, two)
    numbers: dict[str, Any] = {"moved_by_sd": moved, "spread_ratio": wider}
    text = f"inputs of val lie {moved:.2g} sd from those of train and spread {wider:.2g} x as much (median column)"
    other = next(of_one_split(one, two), None)
    if other:
        return _otherwise(*other)
    alone = _alone(subject, one, two)
    if alone:
        return Finding("warning", *alone, "put both splits through the same transform, fitted on train", numbers, RULE)
    known = {} if words else tables(subject)
    if known and min(len(known["train"]), len(known["val"])) >= FEWEST:
        found = _judged(subject, rows["train"].x, numbers, text)
        if found:
            return found
    pictures = all(leaf.dim() == 4 for leaf in parts(rows["train"].x).values())
    factor = one_factor(one, two, pictures)
    cause = (
        f"every column spreads {factor:.2g} x as much: val is scaled by another number" if factor else _scaled(subject, rows, moved, wider)
    )
    if cause:
        step = "put both splits through the same transform, fitted on train"
        return Finding("warning", text, cause, step, numbers, RULE)
    return Finding("info" if moved > TOLD or not 1 / 3 < wider < 3 else "ok", text, numbers=numbers, threshold=RULE)


def _filled(subject: Subject, rows: dict[str, Rows]) -> Finding | None:
    """The finding where tokens of the splits are padded at different ends, or unknown in one of them."""
    leaves = [parts(part.x) for part in rows.values()]
    if subject.kind not in ("classification", "binary", "regression", "sequence") or [*leaves[0]] != [*leaves[1]]:
        return None
    for name, leaf in leaves[0].items():
        found = filled_otherwise(leaf, leaves[1][name])
        if found:
            step = "put all splits through one tokeniser and one way of padding"
            return Finding("warning", f"{name}: {found[0]}", found[1], step, threshold=RULE)
    return None


def _alone(subject: Subject, one: Tensor, two: Tensor) -> tuple[str, str] | None:
    """(what holds of one split alone, its cause): most columns stand still, or each row was scaled by itself; None where neither does."""
    for split, other, here, there in (("val", "train", two, one), ("train", "val", one, two)):
        share = still(there, here)
        if share > HALF:
            text = f"{share:.0%} of the columns that vary in {other} are the same in every row of {split}"
            return text, f"{split} is cut, cropped, padded or encoded otherwise: what these columns held is gone"
        kind = own_scale(there, here)
        if kind and not _drawn(subject):
            text = f"each row of {split} has {kind}, rows of {other} have levels and sizes of their own"
            return text, f"rows of {split} are scaled one by one, those of {other} are not"
    return None


def _drawn(subject: Subject) -> bool:
    """Whether items of train are drawn when they are read: what a transform does then after scaling is no matter of form."""
    source = subject.run.data.raw("train")
    if not isinstance(source, Items):
        return False
    one, two = (source.keyed([(key, row) for row in range(min(READ, len(source)))]) for key in ("one", "two"))
    return any(not torch.equal(a, b) for a, b in zip(leaves(dict(one)), leaves(dict(two)), strict=True))


def _scaled(subject: Subject, rows: dict[str, Rows], moved: float, wider: float) -> str:
    """How one split was scaled and the other not, where moments alone show it; else ""."""
    if 1 / THREEFOLD < wider < THREEFOLD:
        return ""
    alone = _scaled_alone(*(_whole(subject, split, part) for split, part in rows.items()))
    if alone:
        return alone
    far = not 1 / TENFOLD < wider < TENFOLD or moved > TENFOLD
    return "val is scaled otherwise: normalised in one split only, or by other numbers" if far and not _drawn(subject) else ""


def _anew(name: str, facts: dict[str, float]) -> Finding:
    own, across, inside = facts.values()
    text = f"numbers {name} of words or categories tell the target within train ({own:.2f}) and within val ({inside:.2f}), "
    text += f"but not from train to val ({across:.2f})"
    cause = "categories are numbered anew in each split, so that a code of val means another category than in train"
    return Finding("warning", text, cause, "fit the encoder on train, once, and apply it to all splits", dict(facts), RULE)


def _otherwise(column: int, split: str, value: float, share: float) -> Finding:
    other = "val" if split == "train" else "train"
    text = f"column {column} of x is exactly {value:.4g} in {share:.1%} of the rows of {split}, far from every value of {other}"
    numbers = {"column": column, "value": value, "share": share}
    cause = f"missing values are filled otherwise in {split} than in {other}"
    return Finding("warning", text, cause, "fill them in both splits with the same number, one that train gives", numbers, RULE)


def _words(x: Any) -> bool:
    return any(not leaf.is_floating_point() for leaf in parts(x).values())


def _numbers(rows: Rows) -> Rows:
    """The rows with what of their inputs is no code of words or categories."""
    kept = {name: leaf for name, leaf in parts(rows.x).items() if leaf.is_floating_point()}
    return Rows(Batch({**rows.batch, "x": kept}), rows.indices, rows.whole)


def _whole(subject: Subject, split: str, part: Rows) -> Tensor:
    """All rows of a split as numbers where that is little to read, else those of the sample."""
    data = subject.run.data
    count, sampled = data.rows[split], features(part)
    assert sampled is not None
    if not getattr(data.raw(split), "in_memory", False) or count * sampled.shape[1] > MOST_NUMBERS:
        return sampled
    whole = features(_numbers(Rows(data.head(split, count), torch.arange(count), True)))
    return sampled if whole is None else whole


def _scaled_alone(one: Tensor, two: Tensor) -> str:
    """How a split was scaled where nearly every column of it alone spans 0..1 (or -1..1), or has mean 0 and sd 1, to a hundredth; or ""."""
    train, val = _fitted(one), _fitted(two)
    if train == val:
        return ""
    if train and val:
        return f"train was scaled by its own {train}, val by its own {val}"
    return f"{'train' if train else 'val'} was scaled by its own {train or val}, the other split was not"


def _fitted(x: Tensor) -> str:
    """By what columns show that they were scaled: their own `range` or `moments`; "" where they do not."""
    x = x[:, x.std(0, correction=0) > 1e-9]
    if not x.shape[1]:
        return ""
    low, high, mean, spread = x.amin(0), x.amax(0), x.mean(0), x.std(0, correction=0)
    ranged = ((low.abs() < FITTED) | ((low + 1).abs() < FITTED)) & ((high - 1).abs() < FITTED)
    moments = (mean.abs() < FITTED) & ((spread - 1).abs() < FITTED)
    return "range" if float(ranged.float().mean()) > MANY else "moments" if float(moments.float().mean()) > MANY else ""


def _moments(one: Tensor, two: Tensor) -> tuple[float, float]:
    """(median distance of means in sd of train, median ratio of sd) over the columns that vary in either split."""
    spreads = [part.std(0, correction=0) for part in (one, two)]
    varied = torch.stack(spreads).amax(0) > 1e-9
    if not bool(varied.any()):
        return 0.0, 1.0
    low = spreads[0].clamp(min=1e-9)
    moved, wider = ((two.mean(0) - one.mean(0)).abs() / low)[varied], (spreads[1] / low)[varied]
    return float(moved.median()), float(wider.median())


def _judged(subject: Subject, x: Any, numbers: dict[str, Any], text: str) -> Finding | None:
    """The finding where one change of val's form makes train tell of it what it tells of itself."""
    train, val = (tables(subject)[split] for split in ("train", "val"))
    own, across = (told(subject)[way] for way in ("train", "train to val"))
    numbers |= {"train": own.strength, "train to val": across.strength}
    if not own.clear() or across.strength > LOST * own.strength:
        return None
    ways = {way: train.tells(val, changed).strength for way, changed in _changes(x, train.x, val.x)}
    if across.absent() and 1 < train.x.shape[1] <= MOST_COLUMNS:
        half = len(val) // 2
        parts_of = [Table(val.x[some], val.y[some], val.classes) for some in (slice(None, half), slice(half, None))]
        told_anew = [train.tells(two, two.x[:, _paired(_pulls(train), _pulls(one))]) for one, two in (parts_of, parts_of[::-1])]
        ways[REORDERED] = min(one.strength for one in told_anew)
    numbers["changed"] = ways
    best = max(ways, key=lambda way: ways[way])
    if ways[best] < (MOSTLY if best == REORDERED else BACK) * own.strength:
        return None
    detail = f"{text}; train tells {across.strength:.2f} of val as it is, {ways[best]:.2f} with val {best} (of itself {own.strength:.2f})"
    cause = "val does not go through the same transform as train"
    return Finding("warning", detail, cause, "use one transform, fitted on train, for all splits", numbers, RULE)


def _changes(x: Any, train: Tensor, val: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Plain changes of form, by name, of val's rows [N, D]."""
    size, spread = val.std(0, correction=0), train.std(0, correction=0)
    yield "given the moments of train, column by column", (val - val.mean(0)) / size.clamp(min=1e-9) * spread + train.mean(0)
    yield "given the mean and sd of train", (val - val.mean()) / val.std().clamp(min=1e-9) * train.std() + train.mean()
    yield "inverted", train.mean(0) - (val - val.mean(0))
    if train.shape[1] <= MOST_COLUMNS and train.shape[1] > 1:
        yield "with its columns in another order", val[:, _matched(train, val)]
    given = list(parts(x).values())
    if len(given) == 1 and given[0].dim() in (2, 3) and max(given[0].shape[1:]) >= LONG:
        axis = max(range(1, given[0].dim()), key=lambda axis: given[0].shape[axis])
        yield "reversed", val.reshape(len(val), *given[0].shape[1:]).flip(axis).reshape(len(val), -1)
    if len(given) != 1 or given[0].dim() != 4:
        return
    pictures = val.reshape(len(val), *given[0].shape[1:])
    yield "mirrored", pictures.flip(-1).reshape(len(val), -1)
    yield "upside down", pictures.flip(-2).reshape(len(val), -1)
    if pictures.shape[1] > 1:
        yield "with its channels reversed", pictures.flip(1).reshape(len(val), -1)
    if pictures.shape[-1] == pictures.shape[-2]:
        yield "with height and width exchanged", pictures.transpose(-1, -2).reshape(len(val), -1)


def _matched(train: Tensor, val: Tensor) -> list[int]:
    """Which column of val is most like each of train by its quantiles."""
    places = torch.linspace(0, 1, 21)
    return _paired(train.quantile(places, 0).T, val.quantile(places, 0).T)


def _pulls(table: Table) -> Tensor:
    """The correlation of each column with each target or class, [D, K]."""
    y = torch.nn.functional.one_hot(table.y.long(), table.classes).float() if table.classes else table.y.reshape(len(table), -1).float()
    one, two = (part - part.mean(0) for part in (table.x.float(), y))
    found: Tensor = (one / one.norm(dim=0).clamp(min=1e-9)).T @ (two / two.norm(dim=0).clamp(min=1e-9))
    return found


def _paired(one: Tensor, two: Tensor) -> list[int]:
    """Which row of `two` is most like each of `one`, the surest pair first."""
    distance = torch.cdist(one, two)
    order, free = [-1] * len(distance), set(range(len(distance)))
    for pair in distance.flatten().argsort().tolist():
        row, column = divmod(pair, len(distance))
        if order[row] < 0 and column in free:
            order[row] = column
            free.discard(column)
    return order
