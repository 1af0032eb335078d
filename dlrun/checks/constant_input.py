"""Inputs that are all the same: blank pictures, an index that is not used, a column that is dead.

Columns that never change are usual (borders of pictures) and only told. That all items are equal is a fact, not a statistic; nine of ten
are by a cast or a scale that leaves nothing. A column is a fault where a layer reads it as it reads one that does change (`_twins.py`).
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from dlrun.checks._frame import Finding, Rows, Subject, check, skipped
from dlrun.checks._inputs import parts, sample
from dlrun.checks._twins import one_for_all
from dlrun.functional.nearest import row_sums

LEAST, MANY, WIDE = 8, 64, 5
CONSTANT, BLANK, NEARLY = 0.2, 0.5, 0.9
WITHOUT = ("gan", "other", "graph")
"""Kinds whose x may be a mere place holder, or the same graph each time."""
RULE = (
    f"error: all items of train are equal, or {NEARLY:.0%} of rows of {WIDE} and more columns; warning: more than {BLANK:.0%} of the "
    "images of train are blank, or a part that never changes goes through the layer of one that does"
)


@check(stage="data", recipe="Hacker's Guide: be friends with every pixel")
def constant_input(subject: Subject) -> Finding:
    """Compare up to 1,024 rows of train with the first of them, and the values of each with each other."""
    rows = sample(subject, "train")
    named = {name: leaf.detach().cpu() for name, leaf in parts(rows.x).items() if leaf.numel()}
    if not named or len(rows) < LEAST:
        return skipped(f"it takes at least {LEAST} rows of x")
    seen = f"{len(rows)} rows of train looked at"
    if all(bool((leaf == leaf[:1]).all()) for leaf in named.values()):
        text = f"the inputs are the same for every item ({seen})"
        if subject.kind in WITHOUT or subject.expects.get("repeated_inputs") or _alike(rows.y):
            return Finding("info", text, numbers={"rows": len(rows)}, threshold=RULE)
        cause = "the index is not used, or a transform wipes everything out"
        return Finding("error", text, cause, "print dataset[0] and dataset[1]", {"rows": len(rows)}, RULE)
    nearly = _nearly(subject, rows, named)
    if nearly:
        return nearly
    blank = {name: _blank(leaf) for name, leaf in named.items() if leaf.dim() >= 4 and leaf.shape[-1] * leaf.shape[-2] >= 16}
    name, share = max(blank.items(), key=lambda pair: pair[1], default=("", 0.0))
    dead = {name: _constant(leaf) for name, leaf in named.items()}
    numbers = {"rows": len(rows), "blank": share, "constant_features": dead}
    if share > BLANK and not subject.expects.get("repeated_inputs"):
        cause = "values are cut off, cast or scaled so that nothing is left"
        return Finding(
            "warning",
            f"{share:.0%} of the images in {name} are blank: of one colour, the same ({seen})",
            cause,
            "look at some: dlrun data --out",
            numbers,
            RULE,
        )
    pair = None if subject.kind in ("gan", "graph") or subject.expects.get("repeated_inputs") else one_for_all(subject, rows)
    if pair:
        text = f"{pair[0]} is the same in every row of train, {pair[1]} is not, and one layer reads both ({seen})"
        cause = "it was drawn, or indexed, once where each row was to get its own (size= left out)"
        return Finding("warning", text, cause, f"print {pair[0]} of a few rows", numbers | {"still": pair[0]}, RULE)
    most = max(dead, key=lambda name: dead[name])
    if dead[most] > CONSTANT:
        return Finding("info", f"{dead[most]:.0%} of the features of {most} never change ({seen})", numbers=numbers, threshold=RULE)
    return Finding("ok", f"items differ, {dead[most]:.0%} of the features of {most} never change ({seen})", numbers=numbers, threshold=RULE)


def _nearly(subject: Subject, rows: Rows, named: dict[str, Tensor]) -> Finding | None:
    """The finding where nearly all rows are equal, byte for byte, and their targets are not."""
    wide = sum(leaf[0].numel() for leaf in named.values())
    if len(rows) < MANY or wide < WIDE or subject.kind in WITHOUT or subject.expects.get("repeated_inputs"):
        return None
    sums = row_sums(list(named.values()))
    usual, count = Counter(sums).most_common(1)[0]
    same = torch.tensor([row == usual for row in sums])
    if count < NEARLY * len(rows) or not isinstance(rows.y, Tensor) or _alike(rows.y.cpu()[same]):
        return None
    text = f"{count / len(rows):.0%} of the items of train have the same inputs, and not the same targets ({len(rows)} rows looked at)"
    cause = "a cast to integers, or a scale, that leaves next to nothing of the values"
    return Finding("error", text, cause, "print x before and after each transform", {"rows": len(rows), "equal": count}, RULE)


def _alike(y: object) -> bool:
    """Whether there is nothing to tell items apart by: no targets, or all the same."""
    return not isinstance(y, Tensor) or bool((y == y[:1]).all())


def _blank(leaf: Tensor) -> float:
    """The share of images that are of one colour, the same one: images may well be told apart by their colour alone."""
    flat = leaf.reshape(len(leaf), -1)
    blank = flat[(flat == flat[:, :1]).all(1), 0]
    return float((blank == blank.mode().values).sum() / len(leaf)) if len(blank) else 0.0


def _constant(leaf: Tensor) -> float:
    flat = leaf.reshape(len(leaf), -1)
    return float((flat == flat[:1]).all(0).to(torch.float32).mean())
