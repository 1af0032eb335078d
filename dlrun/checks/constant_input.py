"""Inputs that are all the same: blank pictures, an index that is not used, a column that is dead.

Columns that never change are usual (borders of pictures) and only told. That all items are equal is a fact, not a statistic.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._inputs import parts, sample

LEAST = 8
CONSTANT, BLANK = 0.2, 0.5
WITHOUT = ("gan", "other", "graph")
"""Kinds whose x may be a mere place holder, or the same graph each time."""
RULE = f"error: all items of train are equal; warning: more than {BLANK:.0%} of the images of train are blank"


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
    most = max(dead, key=lambda name: dead[name])
    if dead[most] > CONSTANT:
        return Finding("info", f"{dead[most]:.0%} of the features of {most} never change ({seen})", numbers=numbers, threshold=RULE)
    return Finding("ok", f"items differ, {dead[most]:.0%} of the features of {most} never change ({seen})", numbers=numbers, threshold=RULE)


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
