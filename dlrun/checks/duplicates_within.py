"""Rows of train that repeat: an index that is not used as it should be, rows copied by a join.

The catalogue's shares (half unique: error, 95 %: warning) fire on tables of categories, repeated measurements, rows repeated to balance
classes. So a warning needs rows so rich that equal ones must be copies, and either fewer than half of them different with no class or
target that explains it, or equal inputs with different classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.checks._copies import evened
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._inputs import is_integer, rich, sample, sums

LEAST = 32
UNIQUE, SOME, CONFLICT = 0.5, 0.95, 0.05
RULE = (
    f"warning: less than {UNIQUE:.0%} of rich rows are unique, or more than {CONFLICT:.0%} of them equal another row of another class; "
    f"note: less than {SOME:.0%} unique"
)


@check(stage="data", recipe="Hacker's Guide: be friends with every pixel", follows=("item_stability", "constant_input"))
def duplicates_within(subject: Subject) -> Finding:
    """Sums over the bytes of each row, in memory of up to 256 MiB, of items read one by one of what time allows."""
    found, y = sums(subject, "train")
    if len(found) < LEAST:
        return skipped(f"it takes at least {LEAST} rows of x")
    group: dict[bytes, list[int]] = {}
    for row, key in enumerate(found):
        group.setdefault(key, []).append(row)
    share = len(group) / len(found)
    conflicts = _conflicts(group, y) / len(found)
    numbers: dict[str, Any] = {"rows": len(found), "unique": share, "other_class": conflicts, "most_often": max(map(len, group.values()))}
    text = f"{share:.1%} of {len(found)} rows of train are unique (inputs, byte for byte)"
    text += f"; {conflicts:.1%} equal a row of another class" if conflicts else ""
    if share >= SOME and conflicts <= CONFLICT:
        return Finding("ok", text, numbers=numbers, threshold=RULE)
    declared = subject.expects.get("repeated_inputs")
    if declared or subject.kind in ("gan", "graph", "other") or not rich(sample(subject, "train")):
        why = "declared" if declared else "rows of few different values repeat by themselves"
        return Finding("info", f"{text} ({why})", numbers=numbers, threshold=RULE)
    if conflicts > CONFLICT:
        cause = "inputs and labels are read by different indices"
        return Finding("warning", text, cause, "print a few rows of x with their labels", numbers, RULE)
    if share < UNIQUE and not _explained(group, y):
        cause = "an index that repeats (i % n, i // n), or rows copied by a join"
        return Finding("warning", text, cause, "drop the copies; if they are meant: expects.repeated_inputs=true", numbers, RULE)
    return Finding("info", text, numbers=numbers, threshold=RULE)


def _conflicts(group: dict[bytes, list[int]], y: Any) -> int:
    """Rows whose inputs equal those of a row of another class; 0 where targets are no classes."""
    if not isinstance(y, Tensor) or y.dim() != 1 or not is_integer(y):
        return 0
    labels = y.tolist()
    return sum(len(rows) for rows in group.values() if len(rows) > 1 and len({labels[row] for row in rows}) > 1)


def _explained(group: dict[bytes, list[int]], y: Any) -> bool:
    """Whether targets say why rows repeat: numbers measured several times, or rare classes repeated until all are equally many."""
    if not isinstance(y, Tensor):
        return False
    repeated = [rows for rows in group.values() if len(rows) > 1]
    if y.is_floating_point() and y.numel() == y.shape[0]:
        return sum(len(y[rows].unique()) > 1 for rows in repeated) > 0.5 * len(repeated)
    return is_integer(y) and evened(y.cpu(), torch.tensor([rows[0] for rows in group.values()]))
