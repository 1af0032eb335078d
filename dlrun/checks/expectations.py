"""What `expects` declares of data and training noise, held against what is so: a declaration that does not hold hides a fault.

The other declared facts are asserted by the checks they concern (causality, mode_switch, sample_independence, row_separable,
optimizer_owns, duplicates_within). That weights are pretrained or that a loss may rise cannot be refuted by a look; there the declaration
only spares a set-up what would be said of others.
"""

from __future__ import annotations

from typing import Any

import torch

from dlrun.batch import leaves
from dlrun.checks._frame import Finding, Subject, check, declared, gap, largest, skipped
from dlrun.data.sources import Items

ITEMS = 8
RULE = "readings, or forwards in train mode, under two seeds: equal to the bit, or apart by more than rounding"


@check(stage="outputs", moment="check", recipe="say what is meant, and have it proved")
def expectations(subject: Subject) -> Finding:
    """static_rows, stochastic_data and stochastic_train; the first that does not hold is the finding."""
    verdicts = []
    expects = subject.expects
    static, drawn = expects.get("static_rows"), expects.get("stochastic_data")
    if static or drawn:
        where = _changing(subject)
        text = f"{where} at every reading" if where else "every row is the same at every reading"
        verdicts += [declared("static_rows", not where, text, threshold=RULE)] if static else []
        verdicts += [declared("stochastic_data", bool(where), text, threshold=RULE)] if drawn else []
    if expects.get("stochastic_train"):
        if subject.loss_task is None:
            verdicts.append(skipped("expects.stochastic_train: a task of several objectives has no single output to repeat"))
        else:
            verdicts.append(_noisy(subject))
    if not verdicts:
        return skipped("expects declares neither static_rows, stochastic_data nor stochastic_train")
    return next((verdict for verdict in verdicts if verdict.level == "warning"), verdicts[0])


def _changing(subject: Subject) -> str:
    """What differs when it is read again; "" where nothing does."""
    run = subject.run
    for split in run.data.rows:
        source = run.data.raw(split)
        if isinstance(source, Items):
            rows = range(min(ITEMS, len(source)))
            reads = [source.keyed([(f"{split} {time}", row) for row in rows]) for time in ("once", "again")]
            if not _equal(reads[0], reads[1]):
                return f"items of {split} differ"
    if run.data.augments:
        once, again = (run.data.augmented(run.data.head("train", ITEMS), step) for step in (0, 1))
        return "" if _equal(once, again) else "augmented rows of train differ"
    return ""


def _equal(one: Any, two: Any) -> bool:
    mine, theirs = (list(leaves(dict(read))) for read in (one, two))
    return len(mine) == len(theirs) and all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def _noisy(subject: Subject) -> Finding:
    """Whether forwards in train mode differ under other noise."""
    one, two = (subject.copy() for _ in range(2))
    batch = subject.prepared(one, subject.few)
    outs = [subject.outputs(run, batch, training=True, key=key) for run, key in ((one, "one"), (two, "two"))]
    apart = gap(outs[0], outs[1])
    text = f"two forwards in train mode differ by {apart:.3g}" if apart else "two forwards in train mode are equal to the bit"
    return declared("stochastic_train", apart > 1e-6 * largest(outs[0]), text, {"difference": apart}, RULE)
