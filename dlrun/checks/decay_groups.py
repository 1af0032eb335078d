"""Weight decay: what decays, and whether it takes weights away faster than the gradient can build them.

The catalogue's rule (decay x lr x steps > 5: weights shrink by e^-5) is unsound: every long training with decoupled decay passes it,
GPT-3's by far; decay is balanced by gradients. What counts is the decay of a single step, and whether the network still learns under it,
a batch by heart or rows of train and val: all are measured, with decay and without, where the first is large.
"""

from __future__ import annotations

import math
import time
from typing import Any

from dlrun.checks._decayed import FEW, HEAVY, LONGEST, Course, course, starved, undone
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._pulse import Pulse, pulses
from dlrun.checks._rates import idle
from dlrun.checks._stream import as_it_is
from dlrun.checks._trial import try_anew
from dlrun.checks.overfit_1_batch_few import without_noise
from dlrun.run import Run

STRONG, STEPS, LOST = 0.005, 100, 0.5
OWN = 3.0
"""How many times lr x weight_decay a step without gradient takes at least, where decay goes through a division by the gradient's size."""
RULE = f"a step takes < {STRONG:.1%} of the weights, or training lowers the loss at least half as much as without decay"


@check(
    stage="update",
    moment="check",
    recipe="decay matrices, not biases and norms",
    follows=("optimizer_owns", "frozen_report", "update_size", "lr_sanity"),
)
def decay_groups(subject: Subject) -> Finding:
    """Groups with decay; where it is strong, the loss of one batch after 100 steps at the base rate with it and without."""
    reason = idle(subject)
    if reason:
        return skipped(reason)
    run = subject.run
    groups = [group for optimizer in run.optimizers.values() for group in optimizer.param_groups]
    decays = [float(group["weight_decay"]) for group in groups if isinstance(group.get("weight_decay"), (int, float))]
    vectors = sum(p.dim() < 2 for group in groups if group.get("weight_decay") for p in group["params"])
    answers = pulses(subject)
    pull = max((answer.pull * answer.boost for answer in answers), default=0.0)
    strongest = max(decays, default=0.0)
    numbers: dict[str, Any] = {"weight_decay": decays, "pull": pull, "vectors_decayed": vectors}
    text = f"weight decay {strongest:g}" if strongest else "no weight decay in the groups"
    if pull > 0:
        text += f": a step without gradient takes {pull:.2g} of the weights"
    if vectors:
        text += f"; {vectors} biases and norms decay too"
    if pull < STRONG or subject.loss_task is None:
        return Finding("info" if vectors and strongest >= 0.01 else "ok", text, numbers=numbers, threshold=RULE)
    found = _strong(subject, text, strongest, numbers)
    return found if found.level == "warning" or subject.patience < 1 else _beside(subject, found, strongest, answers) or found


def _strong(subject: Subject, text: str, strongest: float, numbers: dict[str, Any]) -> Finding:
    """The verdict where decay is strong: what it does to learning one batch."""
    if not strongest:
        return Finding("info", f"{text}, by no option of its groups", numbers=numbers, threshold=RULE)
    begun = time.thread_time()
    try_anew(subject, _constant, FEW)
    if (time.thread_time() - begun) * STEPS > FEW * LONGEST:
        return Finding("info", f"{text}; steps take too long to try what it does", numbers=numbers, threshold=RULE)
    before, there = try_anew(subject, _constant, STEPS)
    _, without = try_anew(subject, _without, STEPS)
    numbers |= {"before": before, "after": there, "without": without}
    if not math.isfinite(without) or before - without < 0.3 * abs(before):
        return Finding("info", f"{text}; without it one batch is not learned either", numbers=numbers, threshold=RULE)
    text += f"; {STEPS} steps on one batch take the loss from {before:.4f} to {there:.4f}, without decay to {without:.4f}"
    if before - there >= LOST * (before - without):
        return Finding("info", text, numbers=numbers, threshold=RULE)
    _, slower = try_anew(subject, _slower, STEPS)
    numbers["with_a_thirtieth_of_the_rate"] = slower
    if strongest < 0.5 and before - slower >= LOST * (before - without):
        return Finding(
            "info", f"{text}; at a thirtieth of the rate to {slower:.4f}: the rate, not the decay", numbers=numbers, threshold=RULE
        )
    cause = f"weight_decay={strongest:g} shrinks the weights faster than gradients build them up"
    return Finding("warning", text, cause, "try a hundredth of it", numbers, RULE)


def _beside(subject: Subject, found: Finding, strongest: float, answers: list[Pulse]) -> Finding | None:
    """The verdict where a batch is learned by heart under decay, and rows of train and val are not."""
    drop = _drop if strongest else undone(subject)
    there = course(subject, as_it_is) if drop else None
    without = course(subject, drop, there.steps) if there and drop else None
    if there is None or without is None:
        found.numbers["rows_of_val"] = "not tried: it broke, or its steps take too long" if drop else "not tried: no decay to take away"
        return None
    divided = any(answer.pull > OWN * answer.rate * strongest > 0 for answer in answers)
    if not starved(there, without, divided and strongest >= HEAVY):
        return None
    text = _told(found.message.split(":")[0], there, without)
    cause = f"weight_decay={strongest:g} pulls the weights to zero as hard as gradients build them up"
    step = "try a hundredth of it"
    if divided:
        cause, step = f"{cause}: here it is added to the gradient, as L2, and rescaled with it", "AdamW for Adam, or a hundredth of it"
    if not strongest:
        cause, step = "the optimizer's step shrinks the weights by itself, faster than gradients build them up", "multiply its decay by lr"
    return Finding("warning", text, cause, step, found.numbers | {"with": vars(there), "undecayed": vars(without)}, RULE)


def _told(text: str, there: Course, without: Course) -> str:
    before, after, other = there.val[0], there.val[-1], without.val[-1]
    return f"{text}: {there.steps} steps take the loss of val from {before:.4g} to {after:.4g}, without it to {other:.4g}"


def _drop(run: Run) -> None:
    """No decay in any group."""
    for optimizer in run.optimizers.values():
        for group in optimizer.param_groups:
            if group.get("weight_decay"):
                group["weight_decay"] = 0.0


def _constant(run: Run) -> None:
    """No schedule: decay is judged at the full rate."""
    without_noise(run, 1.0)
    run.steps = STEPS


def _slower(run: Run) -> None:
    without_noise(run, 1 / 30)
    run.steps = STEPS


def _without(run: Run) -> None:
    _constant(run)
    _drop(run)
