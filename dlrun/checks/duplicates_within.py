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
from dlrun.checks._frame import Finding, Subject, check, gap, largest, skipped
from dlrun.checks._inputs import is_integer, parts, rich, sample, sums

LEAST = 32
UNIQUE, SOME, CONFLICT, COPIED = 0.5, 0.95, 0.05, 0.95
RULE = (
    f"warning: less than {UNIQUE:.0%} of rich rows are unique, or more than {CONFLICT:.0%} of them equal another row of another class; "
    f"error: both views of {COPIED:.0%} of the rows are equal; note: less than {SOME:.0%} unique"
)


@check(stage="data", recipe="Hacker's Guide: be friends with every pixel", follows=("item_stability", "constant_input"))
def duplicates_within(subject: Subject) -> Finding:
    """Sums over the bytes of each row, in memory of up to 256 MiB, of items read one by one of what time allows; two views of each row."""
    views = _views(subject) if subject.kind == "contrastive" else 0.0
    if views > COPIED:
        text = (
            f"both views of {views:.0%} of the rows of a training batch are equal, byte for byte, and the network draws nothing at random"
        )
        cause, step = "one view is drawn and used twice: views that are equal agree by themselves", "draw (or record) each view anew"
        return Finding("error", text, cause, step, {"equal_views": views}, RULE)
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


def _views(subject: Subject) -> float:
    """The share of rows of a training batch whose two views are equal as the network gets them; 0 where it draws something itself.

    Dropout may be the augmentation: then the same row twice is meant.
    """
    run = subject.copy()
    batch = subject.prepared(run, subject.raw)
    leaves = list(parts(batch.get("x")).values())
    if len(leaves) == 1 and leaves[0].dim() > 2 and leaves[0].shape[1] == 2:
        one, two = leaves[0][:, 0], leaves[0][:, 1]
    elif len(leaves) == 2 and leaves[0].shape == leaves[1].shape:
        one, two = leaves
    else:
        return 0.0
    share = float((one == two).reshape(len(one), -1).all(1).double().mean())
    if share <= COPIED or subject.loss_task is None:
        return 0.0
    first, second = (subject.outputs(run, batch, training=True, key=key) for key in ("one", "two"))
    return share if gap(first, second) <= 1e-5 * largest(first) else 0.0


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
