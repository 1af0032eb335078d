"""Augmentations that destroy what the label depends on: noise that drowns the signal, a flip of what left and right tell, rows moved apart
from their labels.

The catalogue compares nearest neighbours of augmented rows with clean ones; shifts and crops ruin these and are right. So models are fitted
to augmented rows and asked of other augmented rows: where clean rows tell the label clearly and augmented ones do not tell it at all, it is
gone. That a row comes out as another row of the batch, with its own label kept, is a fact.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.checks._frame import Finding, Rows, Subject, check, skipped
from dlrun.checks._inputs import JUDGED, features, labels, sample
from dlrun.data.items import generators_kept
from dlrun.functional.relation import Relation, relation, within

LEAST, DRAWS, MOVED = 128, 3, 0.1
RULE = (
    f"error: over {MOVED:.0%} of rows come out as rows of another class; warning: clean rows tell the label, augmented ones do not (z < 3)"
)


@check(
    stage="data", recipe="Hacker's Guide: look at what augmentation does", follows=("item_stability", "constant_input", "label_permutation")
)
def augmentation_keeps_label(subject: Subject) -> Finding:
    """Up to 512 rows of train in batches as training has them, augmented under three steps."""
    data = subject.run.data
    if not data.augments or data.mixed_labels or subject.kind not in ("classification", "binary", "regression"):
        return skipped("no augmentation is configured that keeps labels")
    rows = sample(subject, "train")
    known, clean = labels(subject, rows.y), features(rows)
    if known is None or clean is None or len(rows) < LEAST:
        return skipped(f"it takes {LEAST} rows with a class or number each")
    target, classes = known
    plain = rows.first(JUDGED).batch
    with generators_kept():
        drawn = [_augmented(subject, plain, step) for step in range(DRAWS)]
    moved = _moved(plain, drawn[0])
    numbers: dict[str, Any] = {"rows": len(plain), "moved": moved}
    names = ", ".join(str(name) for name in (subject.run.config.get("augment") or {})) or "the augmentation"
    if moved > MOVED:
        text = f"{names}: {moved:.0%} of the rows come out as other rows of the batch, with the label they had"
        return Finding("error", text, "x is shuffled in the batch and y is not", "index x and y by the same permutation", numbers, RULE)
    tables = [features(Rows(batch, rows.indices[: len(plain)], False)) for batch in drawn]
    if any(table is None or table.shape[0] != len(plain) for table in tables):
        return skipped("augmented rows are no rows of numbers")
    y = target[: len(plain)]
    before, after = within(clean[: len(plain)], y, classes), _across([table for table in tables if table is not None], y, classes)
    numbers |= {"clean": before.strength, "augmented": after.strength, "z": after.z}
    text = f"{names}: clean rows tell the label with strength {before.strength:.2f}, augmented ones with {after.strength:.2f}"
    if before.clear() and after.lost(before):
        return Finding(
            "warning",
            text,
            "the augmentation destroys what the label depends on",
            "make it weaker: dlrun data --out draws it",
            numbers,
            RULE,
        )
    return Finding("ok", text, numbers=numbers, threshold=RULE)


def _augmented(subject: Subject, plain: Batch, step: int) -> Batch:
    """The rows augmented in batches of the training's size."""
    size = max(subject.run.data.cuts[0][1], 2)
    chunks = [plain[low : low + size].map(torch.clone) for low in range(0, len(plain) // size * size or len(plain), size)]
    found = [subject.run.data.augmented(chunk, step, micro) for micro, chunk in enumerate(chunks)]
    rest = plain[len(chunks) * size :] if len(chunks) * size < len(plain) else None
    joined: Batch = Batch.cat([*found, subject.run.data.augmented(rest.map(torch.clone), step, len(chunks))] if rest is not None else found)
    return joined


def _across(tables: list[Tensor], y: Tensor, classes: int | None) -> Relation:
    """What models of several draws of one half of the rows tell of the other half, both ways."""
    half = len(y) // 2
    ends = (slice(0, half), slice(half, None))
    found = []
    for known, asked in (ends, ends[::-1]):
        x, labels_of = torch.cat([table[known] for table in tables]), torch.cat([y[known]] * len(tables))
        found.append(relation(x, labels_of, tables[0][asked], y[asked], classes))
    return Relation(sum(one.strength for one in found) / 2, sum(one.z for one in found) / 2**0.5, len(y))


def _moved(plain: Batch, drawn: Batch) -> float:
    """The share of rows whose x is byte for byte that of another row with another label, while y is what it was."""
    x, new, y = plain.get("x"), drawn.get("x"), plain.get("y")
    if (
        not isinstance(x, Tensor)
        or not isinstance(new, Tensor)
        or not isinstance(y, Tensor)
        or x.shape != new.shape
        or drawn["y"].shape != y.shape
    ):
        return 0.0
    place: dict[bytes, int] = {row.numpy().tobytes(): i for i, row in enumerate(x.detach().cpu().contiguous())}
    kept = (drawn["y"] == y).reshape(len(y), -1).all(1).tolist()
    count = 0
    for i, row in enumerate(new.detach().cpu().contiguous()):
        j = place.get(row.numpy().tobytes(), i)
        count += j != i and kept[i] and not torch.equal(y[i], y[j]) and not torch.equal(x[i], x[j])
    return count / len(y)
