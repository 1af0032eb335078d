"""Labels that do not belong to their inputs: shuffled, read by another index, or named differently in val.

Catalogue row 52 asks a network after its first epoch. Here simple models are asked before any training (`functional/relation.py`), against
the null of labels without relation, and one split is judged by the other, for a relation that nobody finds may just be a hard one (parity,
modular addition, noise to be memorised): that alone is only told. Evidence that labels are wrong is one of these:

- the models learn val from half of val, but nothing of train from as many rows of train, nor val from train (or the other way round);
- they learn train and val each, but train tells nothing of val, or the contrary: labels are named otherwise;
- they learn nothing, but everything once labels are moved by a row or two;
- they learn nothing, yet inputs lie in as many clear groups as there are classes, or are natural images of five or more classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._inputs import SAMPLE, Table, features, labels, parts, sample, tables
from dlrun.checks._pictures import roughness
from dlrun.checks._rows import Rows
from dlrun.functional.groups import groups
from dlrun.functional.relation import Relation, relation, within

LEAST, ENOUGH = 100, 400
LOST = 0.25
SHIFTS = (1, -1, 2, -2)
SMOOTH, MANY = 0.5, 5
APART, FITTING = 0.55, 3.0
FOLLOWS = ("item_stability", "constant_input", "label_histogram", "split_leakage", "duplicates_within")
RULE = f"warning: a relation of z > 6 and strength > 0.3 in one split, where the other shows one of z < 3, below {LOST:g} x that"


@check(stage="data", recipe="Hacker's Guide: labels against a permutation of themselves", follows=FOLLOWS)
def label_permutation(subject: Subject) -> Finding:
    """Ridge regression, nearest neighbours and random features on up to 512 rows of train and of val."""
    if subject.kind not in ("classification", "binary", "regression"):
        return skipped(f"kind {subject.kind} has no label a row")
    known = tables(subject)
    train, val = known.get("train"), known.get("val")
    if train is None or len(train) < LEAST:
        return skipped(f"it takes at least {LEAST} rows of train, with a label or number each")
    numbers: dict[str, Any] = {}
    own = _noted(numbers, "train", train.within())
    if val is not None and len(val) >= LEAST:
        found = _between(train, val, own, numbers)
        if found:
            return found
    if not own.absent():
        text = f"simple models find the labels in the inputs: strength {own.strength:.2f} in {own.rows} rows of train"
        return Finding("ok", text, numbers=numbers, threshold=RULE)
    text = f"no simple model finds a relation between inputs and labels: strength {own.strength:.2f} in {own.rows} rows of train"
    cause, step = _unrelated(subject, train, numbers)
    if cause:
        return Finding("warning", f"{text}{numbers['because']}", cause, step, numbers, RULE)
    return Finding("info", f"{text} (it may be hard, or not there)", numbers=numbers, threshold=RULE)


def _noted(numbers: dict[str, Any], name: str, found: Relation) -> Relation:
    numbers[name] = {"strength": found.strength, "z": found.z, "rows": found.rows}
    return found


def _between(train: Table, val: Table, own: Relation, numbers: dict[str, Any]) -> Finding | None:
    """The finding where one split shows a relation that the other, or both together, do not."""
    theirs, across = _noted(numbers, "val", val.within()), _noted(numbers, "train to val", train.tells(val))
    back = _noted(numbers, "val to train", val.tells(train))

    def lost(weak: Relation, strong: Relation) -> bool:
        return weak.absent() and weak.strength < LOST * strong.strength

    step = "look at some rows with their labels: dlrun data --out"
    for name, other, weak, strong in (("train", "val", own, theirs), ("val", "train", theirs, own)):
        if strong.clear() and lost(weak, strong) and lost(across, strong) and lost(back, strong):
            text = f"inputs tell the labels within {other} (strength {strong.strength:.2f}), not within {name} ({weak.strength:.2f})"
            cause = f"labels of {name} do not belong to their inputs: shuffled alone, or destroyed by a transform"
            return Finding("warning", text, cause, step, numbers, RULE)
    weaker = min(own, theirs, key=lambda one: one.strength)
    if own.clear() and theirs.clear() and lost(across, weaker) and lost(back, weaker):
        text = f"inputs tell the labels within train ({own.strength:.2f}) and within val ({theirs.strength:.2f}), but not from one to the other"
        text += f" ({across.strength:.2f})"
        return Finding("warning", text, "labels are numbered differently in train and val", step, numbers, RULE)
    return None


def _unrelated(subject: Subject, train: Table, numbers: dict[str, Any]) -> tuple[str, str]:
    """(cause, next step) where there is evidence that labels were torn from their inputs; ("", "") where there is none."""
    moved = _moved(subject)
    if moved:
        numbers["moved_by"], numbers["because"] = moved[0], f", but {moved[1].strength:.2f} with the labels moved by {moved[0]:+d}"
        return "labels are read one row off", "read inputs and labels by the same index"
    if train.classes is None or len(train) < ENOUGH:
        return "", ""
    step = "shuffle inputs and labels by one permutation"
    numbers["groups_apart"], of_group = groups(train.x, int(train.y.unique().numel()))
    if numbers["groups_apart"] > APART and _blind(of_group, train):
        numbers["because"] = f", yet inputs fall into {int(train.y.unique().numel())} clear groups"
        return "labels were shuffled apart from their inputs", step
    rows = sample(subject, "train")
    images = [leaf for leaf in parts(rows.x).values() if leaf.dim() == 4 and leaf.is_floating_point() and min(leaf.shape[-2:]) >= 6]
    if len(images) == 1 and train.classes >= MANY and roughness(images[0]) < SMOOTH:
        numbers["because"] = f", and images of {train.classes} classes are never that hard"
        return "labels were shuffled apart from their inputs", step
    return "", ""


def _blind(group: Tensor, train: Table) -> bool:
    """Whether classes are mixed alike in every group."""
    counts = torch.zeros(int(group.max()) + 1, train.classes or 1, dtype=torch.float64)
    counts.index_put_((group, train.y), torch.ones(len(group), dtype=torch.float64), accumulate=True)
    expected = counts.sum(1, keepdim=True) * counts.sum(0, keepdim=True) / counts.sum()
    known = expected > 0
    chi = float(((counts - expected)[known].square() / expected[known]).sum())
    freedom = max((len(counts) - 1) * (int((counts.sum(0) > 0).sum()) - 1), 1)
    return chi < freedom + FITTING * (2 * freedom) ** 0.5


def _moved(subject: Subject) -> tuple[int, Relation] | None:
    """By how many rows labels must be moved so that inputs tell them, and how well they do then; None where no such move is."""
    data = subject.run.data
    count = min(data.rows["train"], SAMPLE)
    if not getattr(data.raw("train"), "in_memory", False):
        return None
    batch = data.head("train", count)
    rows = Rows(batch, torch.arange(count), False)
    x, y = features(rows), labels(subject, rows.y)
    if x is None or y is None:
        return None
    place = torch.randperm(count - 4, generator=torch.Generator().manual_seed(0)) + 2
    for shift in SHIFTS:
        half = len(place) // 2
        one, two = place[:half], place[half:]
        found = relation(x[one], y[0][one + shift], x[two], y[0][two + shift], y[1])
        if found.clear():
            return shift, within(x[place], y[0][place + shift], y[1])
    return None
