"""Twenty steps on one fixed batch with the real optimizer lower its loss: wrong signs and far too large steps show here.

A loss that does not fall is no proof: a warm-up may not have begun, a pretrained network has little to gain, a rate near the edge swings
before it settles. An error needs a loss that never fell, or fell once and then blew up, and ended far above both its start and what knowing
nothing costs; weights that cannot move; or a value that is no number.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._rates import idle
from dlrun.checks._trial import LEAST, STEPS, Trial, chance, trial

FAR = 3.0
RULE = (
    "the loss after, or on the way, is below the loss before; error where it ends above twice its start and 1.5 x that of shuffled targets"
)
ROOTS = ("lr_sanity", "decay_groups", "schedule_preview", "update_size", "grads_cleared", "optimizer_owns", "frozen_report")


@check(stage="learning", moment="fast", recipe="Hacker's Guide: one datapoint, then a few, then all", follows=ROOTS)
def step_lowers_loss(subject: Subject) -> Finding:
    """Loss on 32 rows of the first batch before and after at most 20 steps, under the same noise.

    0.3 s are enough where the loss falls; where it does not, all 20 steps are taken (3 s at most), so that no verdict hangs on the time.
    """
    if subject.loss_task is None:
        return skipped("players that oppose each other need not lower each other's loss")
    if subject.expects.get("loss_may_rise"):
        return skipped("declared by expects.loss_may_rise")
    reason = idle(subject)
    if reason:
        return skipped(reason)
    found = trial(subject)
    numbers: dict[str, Any] = {"before": found.before, "draws": found.draws, "losses": found.losses, "rates": found.rates}
    if found.broken is not None:
        error = found.broken
        text = f"non-finite {error.what} in step {error.step} on one batch, from a loss of {found.before:.4f}"
        numbers |= {"step": error.step}
        return Finding("error", text, "the steps are far too large", "try a tenth of the learning rate", numbers, RULE)
    numbers |= {"after": found.after, "steps": found.done}
    text = f"loss on one batch {found.before:.4f} -> {found.after:.4f} in {found.done} steps"
    return _loss(subject, found, text, numbers)


def _loss(subject: Subject, found: Trial, text: str, numbers: dict[str, Any]) -> Finding:
    """The verdict on the loss."""
    fell = min(found.losses[1:], default=found.before) < found.before - _noise(subject, found)
    if found.after < found.before or (fell and not _blown_up(subject, found)):
        return Finding("ok", text, numbers=numbers, threshold=RULE)
    if all(torch.equal(old, new) for old, new in zip(found.first, found.parameters, strict=True)):
        return _still(subject, found, text, numbers)
    return _risen(subject, found, text, numbers)


def _blown_up(subject: Subject, found: Trial) -> bool:
    """Whether a loss that once fell is far above its start and chance over the last third of the steps."""
    last = found.losses[-max(len(found.losses) // 3, 1) :]
    return found.done >= STEPS and min([*last, found.after]) > FAR * max(abs(found.before), chance(subject, found.batch))


def _noise(subject: Subject, found: Trial) -> float:
    """How far one draw of the loss may lie from another by chance alone: 3 standard deviations."""
    run, batch = found.run, found.batch
    if found.draws == 1:
        return 0.0
    singles = torch.tensor([float(subject.loss_of(run, subject.outputs(run, batch, training=True, key=f"n{i}"), batch)) for i in range(6)])
    return 3 * float(singles.std())


def _still(subject: Subject, found: Trial, text: str, numbers: dict[str, Any]) -> Finding:
    """The verdict on weights that did not change."""
    rate = max(found.rates, default=0.0)
    if rate == 0 or len(found.rates) < LEAST:
        return Finding("info", f"{text}: the learning rate is {rate:g} there", numbers=numbers, threshold=RULE)
    floor = subject.floor
    if floor is not None and found.before <= floor + 1e-6:
        return Finding("info", f"{text}: there is nothing left to learn", numbers=numbers, threshold=RULE)
    cause = "no gradient reaches them, the optimizer holds others, or its steps are too small to change a float"
    return Finding("error", f"{text}: no weight moved", cause, "look at lr and requires_grad, and for detach()", numbers, RULE)


def _risen(subject: Subject, found: Trial, text: str, numbers: dict[str, Any]) -> Finding:
    """The verdict on a loss that never fell, or blew up, though weights moved."""
    before, after, done = found.before, found.after, found.done
    numbers["chance"] = known = chance(subject, found.batch)
    noise = numbers["noise"] = _noise(subject, found)
    far = after > before + max(abs(before), noise) and after > 1.5 * max(known, before)
    cause, step = "the steps are far too large, or go uphill", "try a tenth of the learning rate; look at the loss's sign"
    if far:
        return Finding("error", text, cause, step, numbers, RULE)
    uphill = done >= STEPS // 2 and after - before > max(noise, 0.01 * abs(before)) and before > 0.5 * known
    if uphill and all(a <= b for a, b in pairwise(found.losses)):
        return Finding("error", f"{text}, higher with every step", "the steps go uphill", "look at the optimizer's sign", numbers, RULE)
    level = "warning" if uphill else "info"
    return Finding(level, f"{text}: it did not fall", cause, step, numbers, RULE)
