"""Targets that cannot be learned from: all the same, classes that val has and train has not, numbers outside what the loss is made for.

The catalogue warns of unbalanced classes; rare classes are usual and right, so they are only told. A class that is missing in train is told
too, where few rows of val have it; where many do (a set sorted by class and cut), nothing can be learned for them. Of several labels a row,
one that stands in every row with few others, and not in full ones, is the filler of lists.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._inputs import is_integer, one_a_row, sample

LEAST = 16
UNSEEN, SOME = 0.2, 0.02
FILLED, PARTLY = 50, 0.7
RULE = (
    f"error: one class or one value in train, or over {UNSEEN:.0%} of val's rows of classes that train has not; warning: over {SOME:.0%}, "
    "or a label that fills up the rows which have few others"
)


@check(stage="data", moment="fast", recipe="Hacker's Guide: look at the targets too")
def label_histogram(subject: Subject) -> Finding:
    """Counts of classes in train and val; of numbers, their range. All that are in memory, else those of up to 1,024 rows."""
    kind = subject.kind
    if kind not in ("classification", "binary", "regression", "language_model", "sequence", "graph"):
        return skipped(f"kind {kind} has no labels to count")
    targets = {split: found for split in ("train", "val") if (found := _targets(subject, split)) is not None}
    if "train" not in targets or len(targets["train"]) < LEAST:
        return skipped(f"train has no single tensor of at least {LEAST} targets")
    train, kind = targets["train"], one_a_row(subject, targets["train"]) or kind
    if kind == "graph":
        return skipped("targets are spread over nodes")
    if bool((train == train[:1]).all()) and (train.numel() == len(train) or bool((train == train.flatten()[0]).all())):
        return _constant(train)
    if kind == "binary" or (kind == "regression" and not is_integer(train)) or train.is_floating_point():
        return _unbounded(subject, train) or _filler(train) or _numbers(targets)
    return _classes(subject, kind, targets)


def _targets(subject: Subject, split: str) -> Tensor | None:
    """All targets of a split that are in memory, else those of a sample; without those that a mask or -100 leaves out."""
    data = subject.run.data
    if split not in data.rows:
        return None
    y = data.targets(split)
    if y is None and (getattr(data.raw(split), "in_memory", False) or subject.patience > 1):
        y = sample(subject, split).y
    if not isinstance(y, Tensor) or not y.numel():
        return None
    return y.detach().cpu()


def _constant(train: Tensor) -> Finding:
    value = train.flatten()[0].item()
    text = f"every target of train is {value:.4g}" if isinstance(value, float) else f"every target of train is {value}"
    cause = "the wrong column, a comparison that is never true, or a cast that cuts off"
    return Finding(
        "error", f"{text} ({len(train)} rows)", cause, "print targets where they are made", {"rows": len(train), "value": value}, RULE
    )


def _unbounded(subject: Subject, train: Tensor) -> Finding | None:
    """The finding where labels outside 0..1 let a binary loss fall without end."""
    low, high = float(train.min()), float(train.max())
    if subject.kind != "binary" or (low >= 0 and high <= 1) or subject.loss_task is None:
        return None
    run, batch = subject.copy(), subject.batch
    outputs = subject.outputs(run, batch, training=False)
    if not isinstance(outputs, Tensor):
        return None
    sizes = (100.0, -100.0, 1e4, -1e4)
    near, _, far, away = (float(subject.loss_of(run, torch.full_like(outputs, size), batch)) for size in sizes)
    if min(far, away) > -10 or min(far, away) > near - 10:
        return None
    text = f"binary targets go from {low:g} to {high:g}: the loss falls without end as outputs grow"
    return Finding("error", text, "labels 0 and 1 were expected", "map the labels to 0 and 1", {"min": low, "max": high}, RULE)


def _filler(train: Tensor) -> Finding | None:
    """The finding where a label stands in every row that has few others, and not in those with the most: lists were filled up with it."""
    if train.dim() != 2 or train.shape[1] < 4 or not bool(((train == 0) | (train == 1)).all()):
        return None
    others = train.sum(1, keepdim=True) - train
    most = int(others.max())
    for label in range(train.shape[1]):
        count, has = others[:, label], train[:, label] == 1
        some, full = (count > 0) & (count < most), count == most
        enough = most > 1 and int(some.sum()) >= FILLED and min(int(full.sum()), int((count < most - 1).sum())) >= LEAST
        if not enough or not bool(has[count < most].all()):  # labels of which a row always has as many differ by one at most
            continue
        share = float(has[full].float().mean())
        if share < PARTLY:
            text = f"label {label} stands in every row with fewer than {most} other labels, and in {share:.0%} of those with {most}"
            cause = "lists of labels were filled up with its number before they became zeros and ones"
            numbers = {"label": label, "rows": len(train), "share_of_full": share}
            return Finding("warning", text, cause, "leave filler out: count labels from 1, or mask the filler", numbers, RULE)
    return None


def _numbers(targets: dict[str, Tensor]) -> Finding:
    facts = {split: {"mean": float(y.float().mean()), "std": float(y.float().std(correction=0))} for split, y in targets.items()}
    shown = "; ".join(f"{split} mean {fact['mean']:.4g}, sd {fact['std']:.4g}" for split, fact in facts.items())
    return Finding("ok", f"targets: {shown}", numbers=dict(facts), threshold=RULE)


def _classes(subject: Subject, kind: str, targets: dict[str, Tensor]) -> Finding:
    counted = {split: y[y >= 0].flatten() for split, y in targets.items()}
    if any(not len(y) for y in counted.values()) or int(counted["train"].max()) > 10**6:
        return skipped("no target counts, or they are no classes")
    size = max(int(y.max()) for y in counted.values()) + 1
    counts = {split: torch.bincount(y, minlength=size) for split, y in counted.items()}
    shares = counts["train"].double() / counts["train"].sum()
    even = float(-(shares[shares > 0] * shares[shares > 0].log()).sum()) / math.log(max(int((shares > 0).sum()), 2))
    numbers: dict[str, Any] = {"train": counts["train"][:100].tolist(), "evenness": even}
    unseen = _unseen(subject, kind, counts, numbers)
    if unseen is not None:
        return unseen
    missing = [label for label in range(size) if not counts["train"][label]]
    note = f"; classes {missing[:10]} have no row" if missing and size <= 1000 else ""
    top = f"{int((shares > 0).sum())} classes in train, the most frequent has {float(shares.max()):.1%} of the targets{note}"
    return Finding("info" if even < 0.5 or note else "ok", top, numbers=numbers, threshold=RULE)


def _unseen(subject: Subject, kind: str, counts: dict[str, Tensor], numbers: dict[str, Any]) -> Finding | None:
    """The finding where val has classes that train has not; embeddings and retrieval may be judged on new ones."""
    if "val" not in counts or kind not in ("classification", "binary") or subject.run.task.couples_rows:
        return None
    lost = counts["val"] * (counts["train"] == 0)
    share = float(lost.sum() / counts["val"].sum())
    numbers |= {"val": counts["val"][:100].tolist(), "unseen_share": share}
    if share <= SOME or int(lost.sum()) < 5 or subject.run.data.targets("train") is None:
        return None
    which = lost.nonzero().flatten().tolist()[:10]
    text = f"{share:.0%} of val's rows are of classes that train has not: {which}"
    cause = "the set was sorted by class when it was cut into splits"
    return Finding("error" if share > UNSEEN else "warning", text, cause, "shuffle, or stratify, before cutting", numbers, RULE)
