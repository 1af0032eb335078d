"""Codes of categories that mean other things in val than in train: numbered anew for each split.

A code tells the target by the mean of the rows that have it. Where the codes of train do that for other rows of train and not for those of
val, which nearly all have codes that train has, they may have been numbered anew (or the world may have changed). One of two facts decides:
codes of val tell val's own targets by themselves; or they stand in the order in which the rows of val first meet them, 0, 1, 2, ..., at
ever longer distances, as a fresh encoder numbers them.

Words of texts and the columns of one-hot codes are asked together, for a single place tells little: how often each number stands in a row
tells the target within train and within val, not from one to the other, though both use the same numbers. Words mean the same in both.
Where each step has a target of its own (the next word, a tag), the word of the step is the code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Rows, Subject
from dlrun.checks._inputs import is_integer, labels, parts, sample, tables, told

FEWEST, MOST, ROWS, COLUMNS = 8, 1000, 100, 64
SEEN, CERTAIN, LOST, KEPT, ALONE = 0.9, 6.0, 0.3, 0.5, 5.0


TARGETS = 512
WORDS_SEEN, WORDS_CLEAR, WORDS_ALONE, WORDS_LOST, CODES_LOST = 0.7, 6.0, 4.0, 0.3, 0.5
"""How many of val's words train has; z within train, within val; strength from one to the other beside that within
val: texts of another field tell less, columns of categories do not."""


def words_renumbered(subject: Subject) -> tuple[str, dict[str, float]] | None:
    """(name, what it tells within train, from train to val, within val) of words, or of one-hot columns, that were numbered anew in val."""
    train, val = (sample(subject, split) for split in ("train", "val"))
    leaves, theirs = parts(train.x), parts(val.x)
    name = next(iter(leaves), "")
    if len(leaves) != 1 or list(theirs) != [name] or min(len(tables(subject).get(split, ())) for split in ("train", "val")) < ROWS:
        return None
    if not _same_words(leaves[name], theirs[name]):
        return None
    known = told(subject)
    own, inside, ways = known["train"], known["val"], [known[way] for way in ("train to val", "val to train")]
    least, across = min(own.strength, inside.strength), max(way.strength for way in ways)
    gone = all(way.absent() for way in ways) or (least - across) * inside.rows**0.5 > WORDS_ALONE
    if (
        own.z < WORDS_CLEAR
        or inside.z < WORDS_ALONE
        or not gone
        or across > (WORDS_LOST if is_integer(leaves[name]) else CODES_LOST) * least
    ):
        return None
    return name, {"within train": own.strength, "train to val": across, "within val": inside.strength}


def _same_words(leaf: Tensor, other: Tensor) -> bool:
    """Whether both hold texts of nearly the same numbers, or the same columns of one-hot codes."""
    if leaf.dim() != 2 or leaf.dtype == torch.bool or leaf.shape[1] < 2:
        return False
    if is_integer(leaf):
        return float(torch.isin(other, leaf).double().mean()) > WORDS_SEEN
    rows = torch.cat((leaf[:ROWS], other[:ROWS])) if leaf.shape[1] == other.shape[1] else leaf[:0]
    sums = rows.sum(1)
    if not len(rows) or not bool(((rows == 0) | (rows == 1)).all()):
        return False
    return 0 < float(sums[0]) < leaf.shape[1] / 2 and bool((sums == sums[0]).all())


def steps_renumbered(subject: Subject) -> tuple[str, dict[str, float]] | None:
    """The same of words [N, T] with a target each."""
    train, val = (sample(subject, split) for split in ("train", "val"))
    theirs = parts(val.x)
    for name, leaf in parts(train.x).items():
        pairs = [_steps(leaf, train.y), _steps(theirs.get(name), val.y)]
        if pairs[0] is None or pairs[1] is None:
            continue
        (code, y), (other, z) = pairs  # type: ignore[misc]
        many = int(max(y.max(), z.max())) + 1
        if many > TARGETS or not FEWEST <= len(code.unique()) <= min(MOST, len(code) // 8):
            continue
        y, z = _targets(y, many), _targets(z, many)
        facts = _judged(code, y, other, z)
        if facts and _tells_itself(facts, len(other)):
            return name, facts
    return None


def _steps(leaf: Any, y: Any) -> tuple[Tensor, Tensor] | None:
    """Up to 4,096 (words, targets) of steps; None where the steps have none."""
    if not isinstance(leaf, Tensor) or not isinstance(y, Tensor) or leaf.shape != y.shape or leaf.dim() != 2:
        return None
    if not is_integer(leaf) or not is_integer(y) or not leaf.numel():
        return None
    words, targets = leaf.detach().cpu().flatten().long(), y.detach().cpu().flatten().long()
    known = ((targets >= 0) & (words >= 0)).nonzero()[:4096, 0]
    return (words[known], targets[known]) if len(known) >= ROWS else None


def renumbered(subject: Subject) -> tuple[str, dict[str, float]] | None:
    """(name of the column of codes, what it tells within train, from train to val, within val) where codes were numbered anew."""
    train, val = (sample(subject, split, 4096) for split in ("train", "val"))
    known = [labels(subject, rows.y) for rows in (train, val)]
    if known[0] is None or known[1] is None or min(len(train), len(val)) < ROWS:
        return None
    classes = known[0][1]
    y, z = (_targets(pair[0], classes) for pair in known if pair is not None)
    if y.shape[1] != z.shape[1]:
        return None
    theirs = dict(_codes(val))
    for name, code in _codes(train):
        other = theirs.get(name)
        if other is None or not FEWEST <= len(code.unique()) <= min(MOST, len(code) // 8):
            continue
        facts = _judged(code, y, other, z)
        if facts and (_tells_itself(facts, len(other) * max(z.shape[1] - 1, 1)) or _by_first_met(subject, name)):
            return name, facts
    return None


def _tells_itself(facts: dict[str, float], freedom: int) -> bool:
    return facts["within val"] > KEPT * facts["within train"] and facts["within val"] * freedom**0.5 > ALONE


def _targets(y: Tensor, classes: int | None) -> Tensor:
    return torch.nn.functional.one_hot(y.long(), classes).double() if classes else y.double().reshape(len(y), -1)


def _codes(rows: Rows) -> Iterator[tuple[str, Tensor]]:
    """Columns of whole numbers that are no series of tokens, by name."""
    for name, leaf in parts(rows.x).items():
        if leaf.dim() > 2 or leaf.dtype == torch.bool:
            continue
        flat = leaf.detach().cpu().reshape(len(leaf), -1)
        for place in range(flat.shape[1]) if flat.shape[1] <= COLUMNS else ():
            column = flat[:, place]
            if is_integer(column) or bool((column == column.round()).all()):
                yield f"{name}[{place}]", column.long()


def _judged(code: Tensor, y: Tensor, other: Tensor, z: Tensor) -> dict[str, float] | None:
    """What codes tell, where those of train tell train and not val; None where they tell both, or too little."""
    if float(torch.isin(other, code).double().mean()) < SEEN or min(int(code.min()), int(other.min())) < 0:
        return None
    half = len(code) // 2
    own = (_told(code[:half], y[:half], code[half:], y[half:]) + _told(code[half:], y[half:], code[:half], y[:half])) / 2
    across = _told(code, y, other, z)
    free = max(y.shape[1] - 1, 1)
    if own * (len(code) * free) ** 0.5 < CERTAIN or across > LOST * own or (own - across) * (len(other) * free) ** 0.5 < ALONE:
        return None
    half = len(other) // 2
    inside = (_told(other[:half], z[:half], other[half:], z[half:]) + _told(other[half:], z[half:], other[:half], z[:half])) / 2
    return {"within train": own, "train to val": across, "within val": inside}


def _told(code: Tensor, y: Tensor, other: Tensor, z: Tensor) -> float:
    """The correlation of targets z with the means of y of the rows that have the same code, drawn to the mean of all."""
    size, middle = int(torch.maximum(code.max(), other.max())) + 1, y.mean(0)
    sums = torch.zeros(size, y.shape[1], dtype=torch.float64).index_add_(0, code, y - middle)
    count = torch.bincount(code, minlength=size).double()
    one, two = (sums / (count + 3)[:, None])[other], z - z.mean(0)
    one = one - one.mean(0)
    return float((one * two).sum() / (one.norm() * two.norm()).clamp(min=1e-12))


def _by_first_met(subject: Subject, name: str) -> bool:
    """Whether val's rows, in their own order, meet codes for the first time as 0, 1, 2, ..., and later ones at longer distances."""
    data: Any = subject.run.data
    batch = data.head("val", min(data.rows["val"], 4096))
    found = dict(_codes(Rows(batch, torch.arange(len(batch)), False))).get(name)
    if found is None:
        return False
    met = {code: place for place, code in reversed(list(enumerate(found.tolist())))}
    codes = sorted(met, key=lambda code: met[code])
    first = [met[code] for code in codes]
    half = first[len(first) // 2]
    waited = first[-1] - half > 2 * (half - first[0]) and half >= len(first) // 2
    return len(codes) >= FEWEST and codes == list(range(codes[0], codes[0] + len(codes))) and waited
