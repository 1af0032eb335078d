"""NaN or infinity in the data: one such value spoils every weight it touches. Isola's Hacker's Guide: be friends with every pixel."""

from __future__ import annotations

import time
from typing import Any

import torch

from dlrun.batch import leaves
from dlrun.checks._frame import Finding, Subject, check

ITEMS = 20_000
SECONDS = 0.3


@check(stage="data", moment="fast", recipe="Hacker's Guide: inspect the data right before model(data)")
def finite_data(subject: Subject) -> Finding:
    """Look at every value of the first training batch, and of up to 20,000 rows of each split that lies in memory (0.3 s at most)."""
    bad = _first_bad(subject.raw)
    if bad:
        return _found("the first training batch", bad)
    deadline, seen = time.perf_counter() + SECONDS, {}
    for split, total in subject.run.data.rows.items():
        seen[split] = 0
        if not getattr(subject.run.data.raw(split), "in_memory", False):
            continue
        for batch in subject.run.data.evaluation(split):
            bad = _first_bad(batch)
            if bad:
                return _found(f"split {split}", (bad[0], bad[1] + seen[split], *bad[2:]))
            seen[split] += len(batch)
            if time.perf_counter() > deadline or seen[split] >= min(total, ITEMS):
                break
    looked = ", ".join(f"{n} of {subject.run.data.rows[s]} {s}" for s, n in seen.items() if n) or f"{len(subject.raw)} train"
    return Finding("ok", f"every value is finite ({looked} rows looked at)", numbers={"rows": seen}, threshold="no NaN, no infinity")


def _first_bad(batch: Any) -> tuple[str, int, list[int], float] | None:
    for name, value in batch.items():
        for leaf in leaves(value):
            if leaf.is_floating_point() and not torch.isfinite(leaf.sum()):
                places = (~torch.isfinite(leaf)).nonzero()
                if len(places):
                    place = places[0].tolist()
                    return name, place[0], place[1:], float(leaf[tuple(place)])
    return None


def _found(where: str, bad: tuple[str, int, list[int], float]) -> Finding:
    name, row, column, value = bad
    return Finding(
        "error",
        f"{where}: {name} of row {row} is {value} at {column or 'its only value'}",
        "a missing value or an overflow in the data or its transform",
        "drop or fill such rows where the data is made",
        {"row": row, "column": column, "value": str(value)},
        "no NaN, no infinity",
    )
