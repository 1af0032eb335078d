"""What an epoch of training draws: rows that never come, and batches of one class because nothing was shuffled.

Without a sampler of the user's every epoch is a permutation (`data/order.py`). Samplers may repeat and leave out by design (weights,
bootstrap, a subset): torch's own are taken at their word, if they have a weight for each row. Of others one fact is told apart from
chance: rows left out in the first epoch that no later epoch brings either.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Finding, Subject, check
from dlrun.checks._inputs import is_integer

EPOCHS, MOST_ROWS, MOST_DRAWN = 6, 1_000_000, 3_000_000
MISSED, PURE, BATCHES = 0.05, 0.5, 16
TORCHS = ("SubsetRandomSampler", "WeightedRandomSampler")
RULE = (
    f"error: a weighted sampler with fewer weights than rows; warning: a sampler leaves out the same rows, more than {MISSED:.0%}, "
    f"in {EPOCHS} epochs, or keeps one order in which a batch holds less than {PURE:g} x as many classes as at random"
)


@check(stage="data", recipe="Hacker's Guide: check what the loader really gives")
def loader_coverage(subject: Subject) -> Finding:
    """The row numbers of up to 6 epochs."""
    order, rows = subject.run.data.order, subject.run.data.rows["train"]
    if order.sampler is None:
        return Finding("ok", f"every epoch is a permutation of the {rows} rows of train", numbers={"rows": rows}, threshold=RULE)
    if rows > MOST_ROWS:
        return Finding("info", f"the sampler's {order.length} rows an epoch are too many to look at", numbers={"rows": rows})
    epochs = [order._fresh(epoch).cpu() for epoch in range(max(2, min(EPOCHS, MOST_DRAWN // order.length)))]
    seen = torch.bincount(epochs[0], minlength=rows)
    ever = torch.bincount(torch.cat(epochs), minlength=rows)
    numbers: dict[str, Any] = {
        "rows": rows,
        "drawn": order.length,
        "missed_in_first": int((seen == 0).sum()),
        "missed_in_all": int((ever == 0).sum()),
        "epochs": len(epochs),
        "most_often": int(seen.max()),
    }
    text = f"the sampler draws {order.length} of {rows} rows an epoch"
    if short := _too_few_weights(order.sampler, rows, numbers):
        return short
    known = type(order.sampler).__name__ in TORCHS and type(order.sampler).__module__.startswith("torch.utils.data")
    if not known and numbers["missed_in_all"] == numbers["missed_in_first"] > MISSED * rows and len(epochs) > 2:
        text = f"{numbers['missed_in_all']} of {rows} rows of train are never drawn, in {len(epochs)} epochs"
        text += f"; one is drawn {numbers['most_often']} times an epoch" if numbers["most_often"] > 1 else ""
        return Finding("warning", text, "the sampler's indices leave rows out", "print the indices of one epoch, sorted", numbers, RULE)
    fixed = all(torch.equal(epochs[0], epoch) for epoch in epochs[1:])
    pure = _purity(subject, epochs[0]) if fixed else None
    if pure is not None and pure[0] < PURE * pure[1]:
        numbers |= {"classes_a_batch": pure[0], "at_random": pure[1]}
        text = f"the sampler keeps one order, and a batch holds {pure[0]:.1f} classes where {pure[1]:.1f} would come at random"
        return Finding("warning", text, "rows are sorted by class and not shuffled", "shuffle: leave the sampler out", numbers, RULE)
    odd = numbers["missed_in_first"] or numbers["most_often"] > 1 or fixed
    text += f", {numbers['missed_in_first']} not at all in the first, one up to {numbers['most_often']} times"
    return Finding(
        "info" if odd else "ok", f"{text}{'; the order is the same each epoch' if fixed else ''}", numbers=numbers, threshold=RULE
    )


def _too_few_weights(sampler: Any, rows: int, numbers: dict[str, Any]) -> Finding | None:
    """The finding where a weighted sampler has a weight for the first rows alone, as for each class."""
    weights = getattr(sampler, "weights", None)
    if not isinstance(weights, Tensor) or weights.dim() != 1 or numbers["missed_in_all"] < rows - len(weights) or len(weights) >= rows:
        return None
    numbers["weights"] = len(weights)
    text = f"the sampler has {len(weights)} weights for {rows} rows of train: rows from {len(weights)} on are never drawn"
    cause = "weights of classes where it wants one for each row"
    return Finding("error", text, cause, "weights[y]: the weight of each row's own class", numbers, RULE)


def _purity(subject: Subject, order: Tensor) -> tuple[float, float] | None:
    """(classes in a batch, classes in a batch of rows drawn at random) over up to 16 batches; None without classes in memory."""
    y = subject.run.data.targets("train")
    size = subject.run.data.batch_size
    if y is None or y.dim() != 1 or not is_integer(y) or size < 4 or len(order) < 4 * size:
        return None
    drawn = y[order]
    mixed = drawn[torch.randperm(len(drawn), generator=torch.Generator().manual_seed(0))]

    def classes(labels: Tensor) -> float:
        batches = labels.split(size)[: len(labels) // size]
        chosen = [batches[i] for i in torch.linspace(0, len(batches) - 1, min(BATCHES, len(batches))).long().tolist()]
        return sum(len(batch.unique()) for batch in chosen) / len(chosen)

    return classes(drawn), classes(mixed)
