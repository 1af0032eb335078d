"""Labels torn from their inputs in the whole set: shuffled, or read one row off.

What a simple model does not find may still be there (parity, modular addition, noise to be memorised), so the evidence is one of these, on
rows in which no simple model finds a relation. (Of three models on two halves the best one counts, so 3 standard errors come by chance once
in a hundred sets: for labels that fit when moved, up to 4.5 are nothing if that fit is far stronger.)

- everything is found once labels are moved by a row or two (not in windows that slide over a series, nor where the next row's inputs
  hold the label as it is: there the next row knows what this one is to tell);
- inputs lie in exactly as many clear groups as there are classes, and classes are mixed alike in each;
- inputs are natural pictures (smooth) of five or more classes, 400 rows or more: such sets are never that hard;
- far more is found once a reshape or a sorting of one part alone is undone (`_ways.py`).
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Subject
from dlrun.checks._inputs import SAMPLE, Table, features, labels, one_a_row, parts, sample, tables, told
from dlrun.checks._pictures import roughness
from dlrun.checks._rows import Rows
from dlrun.checks._ways import misordered, turned
from dlrun.functional.groups import groups
from dlrun.functional.relation import Relation, relation, within

LEAST, ENOUGH = 100, 400
SHIFTS = (1, -1, 2, -2)
CHANCE, FAR, COPIED = 4.5, 0.2, 0.95
TRIED = 8
SMOOTH, MANY = 0.65, 5
APART, GAP, FITTING = 0.45, 0.2, 3.0


def torn(subject: Subject) -> tuple[str, str, str, dict[str, Any]] | None:
    """(what was found, cause, next step, numbers) where there is evidence that labels do not belong to their inputs; else None.

    It takes 100 rows of train with a class or a number each.
    """
    train = tables(subject).get("train")
    if train is None or len(train) < LEAST or not one_a_row(subject, sample(subject, "train").y):
        return None
    own = told(subject)["train"]
    apart = _apart(subject, own)
    if apart or own.z > CHANCE:
        return apart
    numbers: dict[str, Any] = {"strength": own.strength, "z": own.z, "rows": own.rows}
    cause, step = _unrelated(subject, train, numbers)
    text = f"no simple model finds the labels in the inputs (strength {own.strength:.2f} in {own.rows} rows)"
    return (f"{text}{numbers.pop('because')}", cause, step, numbers) if cause else None


def _apart(subject: Subject, own: Relation) -> tuple[str, str, str, dict[str, Any]] | None:
    """The same where one part was laid out, or ordered, without the others."""
    order = misordered(subject, own)
    if order:
        numbers: dict[str, Any] = {"strength": own.strength, "reordered": order[1].strength}
        text = f"graphs tell the labels {own.strength:.2f} as they are, {order[1].strength:.2f} with the edges' nodes put {order[0]}"
        step = "put features, masks and both axes of the adjacency in order by one permutation"
        return text, "nodes were sorted and their edges were not (or the other way round)", step, numbers
    part = turned(subject, own) if own.z < CHANCE else None
    if part:
        numbers = {"strength": own.strength, "turned": part[1].strength}
        text = f"no simple model finds the labels in the inputs (strength {own.strength:.2f}), but {part[1].strength:.2f} with {part[0]} "
        cause = f"{part[0]} [K, N] were made [N, K] by reshape, which mixes rows"
        return f"{text}read as [K, N] and transposed", cause, "use .T or .transpose(0, 1), not .reshape", numbers
    return None


def _unrelated(subject: Subject, train: Table, numbers: dict[str, Any]) -> tuple[str, str]:
    """(cause, next step) where there is evidence that labels were torn from their inputs; ("", "") where there is none."""
    moved, own = _moved(subject), numbers["strength"]
    if moved and own < FAR * moved[1].strength:
        numbers["moved_by"], numbers["because"] = moved[0], f", but {moved[1].strength:.2f} with the labels moved by {moved[0]:+d}"
        return "labels are read one row off", "read inputs and labels by the same index"
    if not told(subject)["train"].absent() or train.classes is None or len(train) < ENOUGH:
        return "", ""
    step = "shuffle inputs and labels by one permutation"
    count = int(train.y.unique().numel())
    clear, by_chance, group = groups(train.x, count)
    numbers |= {"groups_apart": clear, "apart_without_groups": by_chance}
    if clear > max(APART, by_chance + GAP) and groups(train.x, 2 * count)[0] < clear and _blind(group, train):
        numbers["because"] = f", yet inputs fall into {count} clear groups, as many as there are classes"
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
    return bool(chi < freedom + FITTING * (2 * freedom) ** 0.5)


def _moved(subject: Subject) -> tuple[int, Relation] | None:
    """By how many rows labels must be moved so that inputs tell them, and how well they do then; None where no such move is."""
    rows = _in_order(subject)
    x, y = (features(rows), labels(subject, rows.y)) if rows is not None else (None, None)
    if rows is None or x is None or y is None or any(_windows(leaf) for leaf in parts(rows.x).values()):
        return None
    place = torch.randperm(len(x) - 4, generator=torch.Generator().manual_seed(0)) + 2
    for shift in SHIFTS:
        half = len(place) // 2
        one, two = place[:half], place[half:]
        found = relation(x[one], y[0][one + shift], x[two], y[0][two + shift], y[1])
        if found.clear() and not _copied(x[place], y[0][place + shift]):
            return shift, within(x[place], y[0][place + shift], y[1])
    return None


def _in_order(subject: Subject) -> Rows | None:
    """The first rows of train in their own order; items that are read one by one as far as a quarter of the check's time allows."""
    data = subject.run.data
    count = min(data.rows["train"], SAMPLE)
    if not getattr(data.raw("train"), "in_memory", False):
        begun = time.thread_time()
        data.head("train", TRIED)
        count = min(count, int(TRIED * subject.patience / 4 / max(time.thread_time() - begun, 1e-6)))
    return Rows(data.head("train", count), torch.arange(count), False) if count >= LEAST else None


def _windows(leaf: Tensor) -> bool:
    """Whether rows are windows that slide over a series: each has most of the numbers of the one before, one place on."""
    if leaf.dim() < 2 or leaf.shape[1] < 2:
        return False
    ways = ((leaf[1:, :-1], leaf[:-1, 1:]), (leaf[1:, 1:], leaf[:-1, :-1]))
    return any(bool((new == old).float().mean() > COPIED) for new, old in ways) and bool((leaf[1:] != leaf[:-1]).any())


def _copied(x: Tensor, y: Tensor) -> bool:
    """Whether a column of x is y: the inputs of the next row are what this one was to tell."""
    if y.dim() > 1 and y.shape[1] > 1:
        return False
    return bool(((x - y.reshape(-1, 1)).abs() <= 1e-5 * y.float().abs().max()).float().mean(0).max() > COPIED)
