"""NaN or infinity in the data: one such value spoils every weight it touches. Isola's Hacker's Guide: be friends with every pixel."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from dlrun.batch import Batch, leaves
from dlrun.checks._frame import Finding, NoCopy, Subject, check

ITEMS = 20_000
RULE = "no NaN, no infinity, unless the loss of such rows is finite"


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
