"""Rows of val and test that train has too: byte for byte, as a near copy, or by the row numbers of two subsets of one Dataset.

Source: C. Geier, Training on test data: Removing near-duplicates in Fashion-MNIST, 2019; B. Barz, J. Denzler, Do we train on test data?,
2020. `dlrun data` counts and shows the pairs. Equal rows prove a leak only where rows hold so much that equal ones must be copies, and
where train does not repeat itself just as often; a near copy lies far nearer than rows of train lie to each other, and is more frequent.
Rows that were multiplied before the cut repeat within train just as often: `_copies.py` tells these from rows that repeat by themselves.
Where one row is a whole graph, or a table to be filled in, masks say what is whose: these must not overlap.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dlrun.checks._copies import HELD, copied_rows, grown, masks_overlap
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._inputs import inputs, is_integer, parts, rich, sample, sums
from dlrun.checks._windows import WINDOWS, slid
from dlrun.data.sources import Items
from dlrun.functional.nearest import nearest, projection

LEAST, QUERIES, REFERENCE = 8, 512, 8192
EQUAL, SOME, FEWEST = 0.05, 0.01, 5
NEAR, SAME, OFTEN = 0.1, 1e-4, 3.0
RULE = (
    f"error: over {EQUAL:.0%} of val or test stand in train byte for byte; warning: over {SOME:.0%}, or near copies (nearer than "
    f"{NEAR:g} x the usual distance) of {EQUAL:.0%}; each more often than {OFTEN:g} x within train, or copies by their targets and a gap "
    f"to all other rows, or {WINDOWS:.0%} of val are windows that overlap windows of train; error: positions that count in train and in val"
)


@check(stage="data", recipe="Hacker's Guide: train, val and test do not overlap", follows=("item_stability", "constant_input"))
def split_leakage(subject: Subject) -> Finding:
    """Compare val and test with train: all that is in memory up to 256 MiB, of items read one by one what time allows."""
    data = subject.run.data
    others: list[str] = [split for split in ("val", "test") if split in data.rows]
    overlap = {split: masks_overlap(subject, split) for split in others}
    if any(both > HELD * count for both, count in overlap.values()):
        return _masks(overlap)
    if not others or data.rows["train"] < LEAST or not inputs(data.head("train", 1)):
        return skipped(f"it takes a val or test split, and {LEAST} rows of train")
    shared = {split: _by_number(data.raw("train"), data.raw(split)) for split in others}
    if any(count >= max(FEWEST, SOME * data.rows[split]) for split, count in shared.items()):
        return _subsets(shared)
    found = {split: sums(subject, split)[0] for split in ("train", *others)}
    known = set(found["train"])
    own = 1 - len(known) / len(found["train"])
    numbers: dict[str, Any] = {"train": len(found["train"]), "repeats_within_train": own}
    seen = []
    for split in others:
        equal = sum(key in known for key in found[split])
        near = _near(subject, split)
        numbers[split] = {"rows": len(found[split]), "equal": equal, **near}
        nearly = f", {near['near']} of {near['asked']} nearly so" if near["near"] else ""
        nearly += f", {near['mirrored']} of {near['asked']} mirrored" if near["mirrored"] else ""
        seen.append(f"{equal} of {len(found[split])} rows of {split} are in train byte for byte{nearly}")
    return _judged(subject, numbers, others, "; ".join(seen))


def _judged(subject: Subject, numbers: dict[str, Any], others: list[str], text: str) -> Finding:
    cause, step = "val or test was copied or drawn from rows of train", "cut the splits once, before anything is copied"
    declared = subject.expects.get("repeated_inputs") or subject.kind in ("gan", "graph")
    quiet = declared or not rich(sample(subject, "train"))
    own, level = numbers["repeats_within_train"], "ok"
    for fact in () if quiet else (numbers[split] for split in others):
        share, near = fact["equal"] / fact["rows"], fact["near"] / max(fact["asked"], 1)
        if share > EQUAL and fact["equal"] >= FEWEST and share > OFTEN * own:
            return Finding("error", text, cause, step, numbers, RULE)
        if share >= SOME and fact["equal"] >= FEWEST and share > OFTEN * own:
            level = "warning"
        if near > EQUAL and fact["near"] >= FEWEST and near > OFTEN * fact["near_within_train"] + SOME:
            level = "warning"
        if fact["mirrored"] > max(FEWEST, EQUAL * fact["asked"], OFTEN * (fact["near"] + share * fact["asked"])):
            level = "warning"
    if level == "warning":
        return Finding(level, text, cause, step, numbers, RULE)
    overlapping = (
        {} if declared else {split: slid(sample(subject, "train", REFERENCE), sample(subject, split, QUERIES)) for split in others}
    )
    if any(overlapping.values()):
        numbers["windows"] = overlapping
        text = " and ".join(f"{share:.0%} of the rows of {split}" for split, share in overlapping.items() if share)
        text += " are windows of a series that lie a few steps from a window of train: they hold the same values"
        cause, step = "windows were cut first and split by chance then", "cut the series into splits first, then into windows"
        return Finding("warning", text, cause, step, numbers, RULE)
    multiplied = {} if quiet else {split: _multiplied(subject, split) for split in others}
    if any(share > EQUAL for share in multiplied.values()):
        numbers["copies_by_target"] = multiplied
        text += f"; rows of train repeat as often, with equal targets ({max(multiplied.values()):.0%})"
        return Finding("warning", text, "rows were copied, or copied and changed a little, before the splits were cut", step, numbers, RULE)
    level = "info" if any(numbers[split][what] for split in others for what in ("equal", "near", "mirrored")) else "ok"
    why = " (declared, or rows of few different values, which repeat by themselves)" if quiet and level == "info" else ""
    return Finding(level, f"{text}{why}", numbers=numbers, threshold=RULE)


def _multiplied(subject: Subject, split: str) -> float:
    """The share of rows of a split that are copies of rows of train, where rows of train were copied too."""
    (train, y), (other, z) = sums(subject, "train"), sums(subject, split)
    share = copied_rows(train, other, y, z)
    return share if share > EQUAL else grown(subject, sample(subject, "train", REFERENCE), sample(subject, split, QUERIES))


def _near(subject: Subject, split: str) -> dict[str, Any]:
    """How many of the rows asked have a near copy in train, or a mirrored one; and the share of rows of train that have one there."""
    train, rows = sample(subject, "train", REFERENCE), sample(subject, split, QUERIES)
    leaves = [parts(part.x) for part in (train, rows)]
    if any(len(named) != 1 or is_integer(next(iter(named.values()))) for named in leaves) or len(train) < 64 or not rich(train):
        return {"near": 0, "asked": 0, "near_within_train": 0.0, "mirrored": 0}
    table, queries = (next(iter(named.values())).detach().cpu().float() for named in leaves)
    table, queries = table.reshape(len(table), -1), queries.reshape(len(queries), -1)
    if table.shape[1] != queries.shape[1] or table.shape[1] < 4 or not bool(table.isfinite().all() and queries.isfinite().all()):
        return {"near": 0, "asked": 0, "near_within_train": 0.0, "mirrored": 0}
    matrix = projection(table.shape[1])
    low, asked = (part if matrix is None else part @ matrix for part in (table, queries))
    share, half = _near_share(low, asked), len(low) // 2
    own = _near_share(low[QUERIES:] if len(low) > 4 * QUERIES else low[half:], low[: min(QUERIES, half)])
    mirrored = 0.0
    if leaves[1] and next(iter(leaves[1].values())).dim() == 4:
        turned = next(iter(leaves[1].values())).detach().cpu().float().flip(-1).reshape(len(rows), -1)
        mirrored = _near_share(low, turned if matrix is None else turned @ matrix, equal=True)
    return {"near": round(share * len(asked)), "asked": len(asked), "near_within_train": own, "mirrored": round(mirrored * len(asked))}


def _near_share(rows: Tensor, queries: Tensor, equal: bool = False) -> float:
    """The share of queries whose nearest of `rows` is nearer than a tenth of the usual distance of rows, but (unless `equal`) not 0."""
    middle = rows.mean(0)
    rows, queries = rows - middle, queries - middle  # so that squares of far values lose no digits
    half = min(len(rows) // 2, QUERIES)
    usual = float((rows[:half] - rows[-half:]).norm(dim=1).median())
    distance = (queries - rows[nearest(queries, rows)[1]]).norm(dim=1)
    return float(((distance < NEAR * usual) & (equal | (distance > SAME * usual))).double().mean())


def _by_number(one: Any, other: Any) -> int:
    """Items that two torch Subsets of one Dataset share by number; 0 where they are no such subsets."""
    subsets = [source.dataset if isinstance(source, Items) and source.rows is None else None for source in (one, other)]
    numbers = [getattr(subset, "indices", None) for subset in subsets]
    bases = [getattr(subset, "dataset", None) for subset in subsets]
    mine, theirs = numbers
    if mine is None or theirs is None or bases[0] is None or bases[0] is not bases[1]:
        return 0
    return len({int(i) for i in mine} & {int(i) for i in theirs})


def _subsets(shared: dict[str, int]) -> Finding:
    text = " and ".join(f"{count} rows of {split}" for split, count in shared.items() if count)
    cause, step = "the row numbers of the splits overlap", "cut one permutation of the row numbers into splits"
    return Finding("error", f"{text} are rows of train by number: subsets of the same dataset overlap", cause, step, dict(shared), RULE)


def _masks(overlap: dict[str, tuple[int, int]]) -> Finding:
    text = " and ".join(f"{both} of {count} targets of {split}" for split, (both, count) in overlap.items() if both)
    numbers = {split: {"both": both, "counted": count} for split, (both, count) in overlap.items()}
    cause, step = "the masks of the splits overlap", "cut one permutation of the positions into masks"
    return Finding("error", f"{text} count in train too: the same rows, the same positions", cause, step, numbers, RULE)
