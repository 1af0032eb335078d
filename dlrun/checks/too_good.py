"""Results that are too good: a loss below what is possible, or val better than the rows that were learned.

After a short trial training separable data are near 0 too, so that a small loss is a note. Below the loss's own floor nothing is possible:
the loss is wrong. The form that watches whole trainings is `curve_watch`'s neighbour.
"""

from __future__ import annotations

import math
from typing import Any

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._generalise import score, trained, why_not
from dlrun.checks._rates import idle
from dlrun.checks._trial import trial

ROWS, LEAST, FAR, PATIENT = 768, 100, 8.0, 10.0
RULE = "no loss below its floor; info where unseen rows of val do better than learned rows of train"


@check(stage="learning", moment="check", recipe="be suspicious of good results", follows=("split_leakage", "target_in_input"))
def too_good(subject: Subject) -> Finding:
    """Losses of the trial steps; with --deep those of learned and of unseen rows after 150 steps on 512 rows of train."""
    reason = idle(subject) or ("" if subject.loss_task is not None else "a task of several objectives has no single floor")
    if reason:
        return skipped(reason)
    found = trial(subject)
    losses = [value for value in (found.before, found.after, *found.losses) if math.isfinite(value)]
    text = f"least loss of {found.done} steps on one batch {min(losses, default=math.nan):.4f}"
    low = _too_low(subject, losses, text)
    if low:
        return low
    if why_not(subject) or subject.patience < PATIENT:
        return Finding("ok", text, numbers={"least": min(losses, default=None), "floor": subject.floor}, threshold=RULE)
    return _compared(subject)


def _too_low(subject: Subject, losses: list[float], text: str) -> Finding | None:
    """The verdict on losses below the floor."""
    floor = subject.floor
    if floor is None or not losses or min(losses) >= floor - 1e-4 * max(1.0, abs(floor)):
        return None
    text += f": below {floor:.4f}, which is not possible"
    cause = "the loss is not what it is taken for: a sign, a missing logarithm, weights that do not add up"
    return Finding("warning", text, cause, "compute it by hand for a row", {"least": min(losses), "floor": floor}, RULE)


def _compared(subject: Subject) -> Finding:
    """The verdict after a short training."""
    rows, others = subject.rows("train", ROWS).batch, subject.rows("val", ROWS // 3).batch
    if min(len(rows), len(others)) < LEAST:
        return skipped(f"it takes {LEAST} rows of train and of val to tell anything")
    cut = len(rows) * 2 // 3
    run = trained(subject, rows[:cut])
    if run is None:
        return skipped("the loss of a short training is not finite: see step_lowers_loss")
    known, unseen, val = (score(subject, run, some) for some in (rows[: cut // 2], rows[cut:], others))
    numbers: dict[str, Any] = {"learned": known.loss, "unseen": unseen.loss, "val": val.loss, "floor": subject.floor}
    text = f"after 150 steps on {cut} rows: loss {known.loss:.4f} on them, {unseen.loss:.4f} on others of train, "
    text += f"{val.loss:.4f} on val"
    low = _too_low(subject, [known.loss, unseen.loss, val.loss], text)
    if low:
        return low
    if val.loss < known.loss - abs(known.shuffled - known.loss) * 0.1 and val.z > FAR and unseen.loss > known.loss:
        return Finding("info", f"{text}: val is easier than what was learned; is it a part of it?", numbers=numbers, threshold=RULE)
    return Finding("ok", text, numbers=numbers, threshold=RULE)
