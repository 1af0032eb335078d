"""How many rows there are to learn from: a slice left in the code leaves a handful of training rows beside a whole validation split.

Few rows alone are no fault (few-shot learning, a first try), nor are many parameters: both are only told. A warning is kept for a train
split that is smaller than half of val and looks like a slice: few-shot sets have equally many rows of each class.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dlrun.checks._frame import Finding, Subject, check
from dlrun.checks._inputs import is_integer

PER_CLASS, PER_ROW, HALF = 20, 1e5, 0.5
RULE = f"warning: train has fewer rows than {HALF:g} x val, unless each class has equally many; note: below {PER_CLASS} rows a class"


@check(stage="data", moment="fast", recipe="Hacker's Guide: first a few examples, then all")
def example_count(subject: Subject) -> Finding:
    """Rows of each split, rows of a class, parameters a row."""
    run = subject.run
    rows, classes = run.data.rows, run.data.spec.classes
    parameters = sum(p.numel() for module in run.modules.values() for p in module.parameters() if p.requires_grad)
    numbers: dict[str, Any] = {"rows": dict(rows), "parameters": parameters}
    shown = ", ".join(f"{count} {split}" for split, count in rows.items())
    if rows["train"] < HALF * rows.get("val", 0) and subject.kind not in ("gan", "graph") and not _even(run.data.targets("train")):
        text = f"train has {rows['train']} rows, val {rows['val']}"
        return Finding("warning", text, "a slice left from a try, or splits that are swapped", "print len() of each split", numbers, RULE)
    if classes and rows["train"] < PER_CLASS * classes:
        return Finding("info", f"rows: {shown}; {rows['train'] / classes:.3g} a class in train", numbers=numbers, threshold=RULE)
    if parameters > PER_ROW * rows["train"]:
        text = f"rows: {shown}; {parameters / rows['train']:.3g} trainable parameters a row of train"
        return Finding("info", text, numbers=numbers, threshold=RULE)
    return Finding("ok", f"rows: {shown}", numbers=numbers, threshold=RULE)


def _even(y: Tensor | None) -> bool:
    """Whether every class has the same number of rows, several classes and at least one each: a few-shot set."""
    if y is None or y.dim() != 1 or not is_integer(y):
        return False
    counts = y.unique(return_counts=True)[1]
    return len(counts) > 1 and int(counts.max()) - int(counts.min()) <= 1
