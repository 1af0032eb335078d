"""NaN or infinity in the data: one such value spoils every weight it touches. Isola's Hacker's Guide: be friends with every pixel.

A number that stands for "missing" among targets (-9999) is finite, and what the network is asked to give: known by its form
(`_markers.py`), and no fault where the loss leaves it out, that is, has no slope at such targets.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from dlrun.batch import Batch, leaves
from dlrun.checks._frame import Finding, NoCopy, Subject, check
from dlrun.checks._inputs import sample
from dlrun.checks._markers import Marker, marker
from dlrun.checks._probe import probe

ITEMS = 20_000
MOST_COLUMNS, KINDS = 16, ("regression", "sequence", "other")
RULE = "no NaN, no infinity, unless the loss of such rows is finite; no number that stands for missing ones among targets that count"


@check(stage="data", moment="fast", recipe="Hacker's Guide: inspect the data right before model(data)", first=True)
def finite_data(subject: Subject) -> Finding:
    """Look at up to 20,000 rows of each split (0.3 s together, 5 s on request) and at every value of the first training batch.

    Rows that a Dataset reads one by one are looked at on request only. A value that the networks and the loss digest (a mask of -inf, a
    target that is left out) is no fault: the loss of its rows decides.
    """
    deadline, seen = time.perf_counter() + subject.patience, {}
    data, excused = subject.run.data, ""
    for split, total in data.rows.items():
        seen[split] = 0
        at_once = getattr(data.raw(split), "in_memory", False)
        if not at_once and (subject.patience < 1 or data.workers):
            continue
        for batch in data.evaluation(split, 512 if at_once else 32):
            bad = _first_bad(batch)
            if bad and not _digested(subject, batch, bad[1]):
                return _found(f"split {split}", (bad[0], bad[1] + seen[split], *bad[2:]))
            excused = excused or (f"; {bad[3]} in {bad[0]} of {split} leaves the loss finite" if bad else "")
            seen[split] += len(batch)
            if time.perf_counter() > deadline or seen[split] >= min(total, ITEMS):
                break
    bad = _first_bad(subject.raw)
    if bad and not _digested(subject, subject.raw, bad[1]):
        return _found("the first training batch", bad)
    found = None if bad or excused else _missing_targets(subject)
    if found:
        return found
    looked = ", ".join(f"{n} of {data.rows[s]} {s}" for s, n in seen.items() if n) or f"{len(subject.raw)} train"
    if bad or excused:
        return Finding("info", f"not every value is finite{excused} ({looked} rows looked at)", numbers={"rows": seen}, threshold=RULE)
    return Finding("ok", f"every value is finite ({looked} rows looked at)", numbers={"rows": seen}, threshold=RULE)


def _first_bad(batch: Any) -> tuple[str, int, list[int], float] | None:
    for name, leaf in ((name, leaf) for name, value in batch.items() for leaf in leaves(value)):
        if not leaf.is_floating_point() or torch.isfinite(leaf.sum()):
            continue
        places = (~torch.isfinite(leaf)).nonzero()
        if len(places):  # else only the sum overflowed
            place = places[0].tolist()
            return name, place[0], place[1:], float(leaf[tuple(place)])
    return None


def _digested(subject: Subject, batch: Batch, row: int) -> bool:
    """Whether the loss of the rows around `row` is finite all the same."""
    if subject.loss_task is None:
        return False
    low = max(0, min(row - 2, len(batch) - 4))
    try:
        run = subject.copy()
        return math.isfinite(subject.batch_loss(run, subject.prepared(run, batch[low : low + 4]), training=False))
    except NoCopy:
        return False
    except Exception:  # a set-up that cannot run digests nothing; `shape_contract` says why
        return False


def _found(where: str, bad: tuple[str, int, list[int], float]) -> Finding:
    name, row, column, value = bad
    place = f"at {column if len(column) > 1 else f'column {column[0]}'}" if column else "(its only value)"
    return Finding(
        "error",
        f"{where}: {name} of row {row} is {value} {place}",
        "a missing value or an overflow in the data or its transform",
        "drop or fill such rows where the data is made",
        {"row": row, "column": column, "value": str(value)},
        RULE,
        blocks="train" in where,  # every number after it would be NaN too
    )


def _missing_targets(subject: Subject) -> Finding | None:
    """The finding where targets are one number over and over, far from all others, and the loss pulls outputs there."""
    at_once = getattr(subject.run.data.raw("train"), "in_memory", False)
    if subject.loss_task is None or subject.kind not in KINDS or not (at_once or subject.patience >= 1):
        return None
    y = sample(subject, "train").y
    if not isinstance(y, torch.Tensor) or not y.is_floating_point() or not y.numel():
        return None
    flat = y.detach().cpu().float().reshape(len(y), -1)
    flat = flat if flat.shape[1] <= MOST_COLUMNS else flat.reshape(-1, 1)
    marks = [found for column in flat.unbind(1) if (found := marker(column)) is not None]
    if not marks or not _counts(subject, marks[0]):
        return None
    one = marks[0]
    text = (
        f"{one.share:.1%} of targets are exactly {one.value:.4g}, {one.far:.3g} ranges of all others (mean {one.mean:.3g}) away from them"
    )
    cause = "a number that stands for missing values is learned as a target"
    step = "drop such rows, or leave them out of the loss with a mask"
    return Finding("warning", text, cause, step, {"value": one.value, "share": one.share, "far": one.far}, RULE)


def _counts(subject: Subject, one: Marker) -> bool:
    """Whether the loss has a slope where the target is this number."""
    try:
        asked = probe(subject)
    except Exception:  # a set-up that cannot run; `shape_contract` says why
        return False
    if asked is None or asked.targets.mode != "numbers" or asked.targets.value is None:
        return False
    target = torch.full_like(asked.targets.value, one.mean)
    target.view(-1)[0] = one.value
    return bool(asked.slope(asked.out, target).flatten()[0] != 0)
