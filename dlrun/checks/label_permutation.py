"""Labels that do not belong to their inputs: shuffled in one split or in all, or read by another index.

Catalogue row 52 asks a network after its first epoch against a null of permuted labels; the watch over a training does that. Here models
that fit in milliseconds (`functional/relation.py`) are asked before any. A relation that nobody finds may just be a hard one (parity, noise
to be memorised): that alone is told. Evidence of wrong labels is a relation that is clear in one split and absent in the other and between
them, or what `_belonging.py` lists.
"""

from __future__ import annotations

from typing import Any

from dlrun.checks._belonging import torn
from dlrun.checks._blocks import torn_block
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._inputs import tables, told
from dlrun.checks._orders import other_order, sorted_columns
from dlrun.checks._pairing import simple
from dlrun.checks._ways import misplaced

LEAST, HALF = 100, 0.6
FOLLOWS = ("item_stability", "constant_input", "label_histogram", "split_input_shift", "duplicates_within")
RULE = (
    "warning: inputs tell labels in one split (z > 6, strength > 0.3), not in the other (z < 3) nor across; or labels fit when moved, or "
    "put in another order; or a part of train's rows is told nothing of, the rest of it well"
)


@check(stage="data", recipe="Hacker's Guide: labels against a permutation of themselves", follows=FOLLOWS)
def label_permutation(subject: Subject) -> Finding:
    """Ridge regression, nearest neighbours and random features on up to 512 rows of train and of val, each judged on unseen ones."""
    known = tables(subject)
    if len(known.get("train", ())) < LEAST:
        return _other_order(subject) or skipped(f"it takes {LEAST} rows of train, with a class or number each")
    tells = told(subject)
    numbers: dict[str, Any] = {name: {"strength": one.strength, "z": one.z, "rows": one.rows} for name, one in tells.items()}
    step = "look at some rows with their labels: dlrun data --out"
    for name, other in (("train", "val"), ("val", "train")) if len(known.get("val", ())) >= LEAST else ():
        strong = tells[other]
        across = max(tells[way].strength for way in ("train to val", "val to train"))  # a fit to noise may point the right way by chance
        if strong.clear() and tells[name].lost(strong) and across < HALF * strong.strength:
            text = f"inputs tell the labels within {other} (strength {strong.strength:.2f}), not within {name} ({tells[name].strength:.2f})"
            cause = f"labels of {name} do not belong to their inputs: shuffled alone, or inputs destroyed by a transform"
            return Finding("warning", text, cause, step, numbers, RULE)
    found = torn(subject)
    if found:
        text, cause, step, more = found
        return Finding("warning", text, cause, step, numbers | more, RULE)
    part = torn_block(subject)
    if part:
        text = f"models of val tell the labels of most of train ({part.told:.2f}), and nothing of rows {part.first} to {part.last} "
        cause = "from some row on labels stand beside other rows' inputs: a file that slipped, or a part that was shuffled alone"
        more = {"told": part.told, "lost": part.lost, "first": part.first, "last": part.last}
        return Finding("warning", f"{text}({part.lost:.2f} in {part.rows} of them)", cause, step, numbers | more, RULE)
    own, apart = tells["train"], _other_order(subject)
    if apart:
        return apart
    if own.absent():
        text = f"no simple model finds the labels in the inputs (strength {own.strength:.2f} in {own.rows} rows): hard, or not there"
        return Finding("info", text, numbers=numbers, threshold=RULE)
    text = f"simple models find the labels in the inputs: strength {own.strength:.2f} in {own.rows} rows of train"
    return Finding("ok", text, numbers=numbers, threshold=RULE)


def _other_order(subject: Subject) -> Finding | None:
    """The finding where targets, or edges, stand in another order than their inputs, or columns of inputs were sorted one by one."""
    node = misplaced(subject) if subject.kind == "graph" else None
    if node:
        name, one, other = node
        text = f"nodes and their neighbours tell the targets of nodes {one.strength:.2f} as they are, {other.strength:.2f} with "
        cause = "edges number the nodes otherwise than the features do: counted from 1, or sorted apart"
        facts: dict[str, Any] = {"strength": one.strength, "moved": other.strength}
        step = "build edges and features from one list of nodes"
        return Finding("warning", f"{text}the edges' nodes put {name}", cause, step, facts, RULE)
    found = other_order(subject)
    if found:
        name, one, other = found
        facts = {"strength": one.strength, "undone": other.strength, "order": name}
        text = (
            f"no simple model finds the targets in the inputs (strength {one.strength:.2f}), but {other.strength:.2f} with targets put in "
        )
        cause = "inputs and targets were laid out, or listed, in two orders: they do not belong together"
        return Finding("warning", f"{text}another order: {name}", cause, "pair them by name or index, and print a few pairs", facts, RULE)
    own = simple(subject).get("rows")
    count = sorted_columns(subject) if own is not None and own.absent() else 0
    if not count or own is None:
        return None
    text = (
        f"all {count} columns of x are in order over the rows, and no simple model finds the targets in them (strength {own.strength:.2f})"
    )
    cause = "columns were sorted one by one, which takes rows apart"
    return Finding("warning", text, cause, "sort rows by one column: x[x[:, 0].argsort()]", {"columns": count}, RULE)
