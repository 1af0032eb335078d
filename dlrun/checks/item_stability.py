"""Items read again: a val item must be the same each time, and reading a train item must not change it.

Every item is read under seeds of its own (`data/items.py`). So there are two questions with exact answers. Under equal seeds a read can
only differ if something outside changed: a transform that works in place (each read goes further, by ever less, or never back to what the
first gave), or random state of the dataset's own (reads scatter). Under other seeds it differs if the item is drawn: an augmentation, which
val should not have. What makes its items up as it is asked (reads as far apart as items of one class) is no augmentation; nor are kinds
whose items are random by nature (masks, noise, views), or targets drawn along with the inputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.batch import leaves
from dlrun.checks._frame import Finding, Subject, check
from dlrun.checks._inputs import inputs, is_integer
from dlrun.data.sources import Items

ITEMS, READS, SEVERAL = 8, 6, 3
SLIGHT = 0.02
"""Share of an item's size below which another first read may be a type's fewer digits, kept for later reads."""
SETTLES = 0.5
MADE_UP = 0.85
DRAWN = ("vae", "diffusion", "contrastive", "gan", "language_model", "sequence", "graph", "other")
RULE = f"error: under equal seeds reads go on, come to a rest, or never come back to the first of {READS}; warning: val is random"


@check(stage="data", recipe="Hacker's Guide: read the same item twice")
def item_stability(subject: Subject) -> Finding:
    """Read 8 items of each split 5 times under equal seeds and twice under others. Splits in memory as tensors cannot change."""
    data = subject.run.data
    sources = {split: data.raw(split) for split in data.rows if isinstance(data.raw(split), Items)}
    if not sources:
        return Finding("ok", "splits are held in memory as tensors: every read gives the same", numbers={"items": 0}, threshold=RULE)
    notes, numbers = [], {}
    for split, source in sources.items():
        rows = torch.linspace(0, len(source) - 1, min(ITEMS, len(source))).long().tolist()
        steps, moves, kept = _repeated(source, split, rows)
        changed = steps[steps[:, 1:].amax(1) > 0]
        numbers[split] = {"changed": len(changed), "second_read": float(steps[:, 1].mean()), "last_read": float(steps[:, -1].mean())}
        if _goes_on(changed) or _settles(moves[steps[:, 1:].amax(1) > 0]) or kept:
            text = f"reading items of {split} changes them: read {READS} times, {len(changed)} of {len(rows)} are never the same again"
            cause = "a transform that works in place (x -= mean, x.mul_(..)) on what the dataset keeps"
            return Finding("error", text, cause, "copy first: x = self.x[i].clone()", numbers, RULE)
        if len(changed):
            notes.append(f"items of {split} draw from random state of their own, which a resumed run will not repeat")
        drawn = _drawn(source, split, rows)
        numbers[split]["other_seeds"] = drawn
        if drawn > 0 and split != "train":
            loud = _augmented(subject, source, split, rows, drawn, numbers)
            if loud:
                return loud
            notes.append(f"items of {split} are random")
    text = "; ".join(notes) or f"{', '.join(sources)}: {READS} reads of {ITEMS} items each are equal"
    return Finding("info" if notes else "ok", text, numbers=numbers, threshold=RULE)


def _goes_on(steps: Tensor) -> bool:
    """Whether every item that changes lies farther from its first read each time, or all go back and forth between two states.

    `steps` [changed items, reads] are distances from the first read. What is drawn at random lies now nearer, now farther.
    """
    if len(steps) == 0:
        return False
    farther = bool((steps[:, 1:] > steps[:, :-1]).all())
    to_and_fro = bool((steps[:, 2::2] == 0).all()) and bool((steps[:, 1::2] > 0).all())
    return farther or (to_and_fro and len(steps) > 1)


def _settles(moves: Tensor) -> bool:
    """Whether every item that changes does so by less than half as much each time: x = (x - a) / b, again and again, comes to a rest.

    `moves` [changed items, reads - 1] are distances from one read to the next. Those of random draws are all alike.
    """
    return len(moves) > 1 and bool((moves[:, 1:] <= SETTLES * moves[:, :-1]).all()) and bool((moves[:, :2] > 0).all())


def _read(source: Any, key: Any, rows: list[int]) -> dict[str, Tensor]:
    taken = source.keyed([(key, row) for row in rows])
    named = {**inputs(taken), **{f"y{i}": leaf for i, leaf in enumerate(leaves(taken["y"]) if "y" in taken else ())}}
    return {name: leaf.detach().clone() for name, leaf in named.items()}


def _each(one: dict[str, Tensor], two: dict[str, Tensor]) -> Tensor:
    """Root mean square difference of each item over all tensors; 1 where even shapes differ."""
    rows = len(next(iter(one.values())))
    if any(one[name].shape != two[name].shape for name in one):
        return torch.ones(rows, dtype=torch.float64)
    flat = [(one[name].double() - two[name].double()).nan_to_num(0, 0, 0).reshape(rows, -1) for name in one]
    return torch.cat(flat, 1).square().mean(1).sqrt()


def _apart(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    """The same over all items."""
    return float(_each(one, two).square().mean().sqrt())


def _repeated(source: Any, split: str, rows: list[int]) -> tuple[Tensor, Tensor, bool]:
    """How far each read of an item lies from its first one, [items, reads], and from the one before it, [items, reads - 1].

    And whether what a read changes stays changed.
    """
    reads = [_read(source, f"{split} reread", rows) for _ in range(READS)]  # under seeds that no other check has read them with
    following = torch.stack([_each(one, two) for one, two in zip(reads, reads[1:], strict=False)], 1)
    return torch.stack([_each(reads[0], read) for read in reads], 1), following, _stays(reads)


def _stays(reads: list[dict[str, Tensor]]) -> bool:
    """Whether several items are never again what they were: after the first read all are alike, or ever more entries of one part differ."""
    shapes = [{name: leaf.shape for name, leaf in read.items()} for read in reads]
    if any(shape != shapes[0] for shape in shapes):
        return False
    for name in reads[0]:
        stack = torch.stack([read[name].reshape(len(read[name]), -1).double().nan_to_num(0, 0, 0) for read in reads])
        away = (stack != stack[:1]).double().mean(2).T
        size = stack[0].square().mean(1).sqrt()
        far = (stack - stack[:1]).square().mean(2).sqrt().amax(0) > SLIGHT * size.clamp(min=1e-9)
        some = away[(away.amax(1) > 0) & far]
        more = bool((some[:, 2:] >= some[:, 1:-1]).all()) and bool((some[:, 1] > 0).any())
        at_once = bool((stack[1:] == stack[1:2]).all()) and bool((some[:, 1] > 0).all())
        growing = bool((some[:, -1] > some[:, 1]).sum() >= SEVERAL) and float(some[:, 1].mean()) < 0.5
        if len(some) >= SEVERAL and more and (at_once or growing):
            return True
    return False


def _drawn(source: Any, split: str, rows: list[int]) -> float:
    """How far reads under two other seeds lie apart."""
    return _apart(_read(source, f"{split} once", rows), _read(source, f"{split} again", rows))


def _augmented(subject: Subject, source: Any, split: str, rows: list[int], drawn: float, numbers: dict[str, Any]) -> Finding | None:
    """The finding where a split that is evaluated is augmented."""
    declared = subject.expects.get("stochastic_data") or subject.expects.get("stochastic_eval")
    train = subject.run.data.raw("train")
    cut = isinstance(train, Items) and source.rows is not None and source.dataset is train.dataset
    if declared or cut or subject.kind in DRAWN:
        return None
    one, two = _read(source, f"{split} once", rows), _read(source, f"{split} again", rows)
    targets = [name for name in one if name.startswith("y")]
    if any(not torch.equal(one[name], two[name]) for name in targets) or _like_inputs(one, targets):
        return None
    moved = {name: leaf for name, leaf in one.items() if name not in targets}
    usual = _usual(moved, one.get("y0"))
    numbers[split]["usual_distance"] = usual
    if drawn <= 0 or _apart(moved, {name: two[name] for name in moved}) > MADE_UP * usual:
        return None
    text = f"items of {split} differ from read to read (by {drawn:.3g}; other items lie {usual:.3g} apart)"
    cause = f"{split} goes through the random transforms of train"
    return Finding("warning", text, cause, f"give {split} a transform without augmentation", numbers, RULE)


def _like_inputs(read: dict[str, Tensor], targets: list[str]) -> bool:
    """Whether targets are as large as inputs: to take out noise that was put in, it must be drawn."""
    shapes = [tuple(leaf.shape) for name, leaf in read.items() if name not in targets]
    return any(tuple(read[name].shape) in shapes and read[name].dim() > 1 for name in targets)


def _usual(read: dict[str, Tensor], y: Tensor | None) -> float:
    """How far different items lie apart, of one class where there are classes among these few."""
    count = len(next(iter(read.values())))
    same = y is not None and is_integer(y) and y.dim() == 1
    pairs = [(i, j) for i in range(count) for j in range(i) if not same or (y is not None and bool(y[i] == y[j]))]
    pairs = pairs or [(i, j) for i in range(count) for j in range(i)]
    found = [_apart({n: leaf[i : i + 1] for n, leaf in read.items()}, {n: leaf[j : j + 1] for n, leaf in read.items()}) for i, j in pairs]
    return sorted(found)[len(found) // 2] if found else 0.0
