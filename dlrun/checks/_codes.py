"""Codes of categories that mean other things in val than in train: numbered anew for each split.

A code tells the target by the mean of the rows that have it. Where the codes of train do that for other rows of train and not for those of
val, which nearly all have codes that train has, they may have been numbered anew (or the world may have changed). One of two facts decides:
codes of val tell val's own targets by themselves; or they stand in the order in which the rows of val first meet them, 0, 1, 2, ..., at
ever longer distances, as a fresh encoder numbers them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Rows, Subject
from dlrun.checks._inputs import is_integer, labels, parts, sample

FEWEST, MOST, ROWS, COLUMNS = 8, 1000, 100, 64
SEEN, CERTAIN, LOST, KEPT, ALONE = 0.9, 6.0, 0.3, 0.5, 5.0


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
