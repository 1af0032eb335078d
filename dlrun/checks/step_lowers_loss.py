"""Twenty steps on one fixed batch with the real optimizer lower its loss: wrong signs and far too large steps show here.

A loss that does not fall is no proof: a warm-up may not have begun, a pretrained network has little to gain, a rate near the edge swings
before it settles. An error needs a loss that never fell and ended far above both its start and what knowing nothing costs, weights that
cannot move, or a value that is no number.
"""

from __future__ import annotations

import math
import time
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.finite import NonFinite, Watch
from dlrun.run import Run

STEPS, LEAST, SECONDS, AT_MOST = 20, 3, 0.3, 3.0
DRAWS = 4
RULE = (
    "the loss after, or on the way, is below the loss before; error where it ends above twice its start and 1.5 x that of shuffled targets"
)


class Losses(Watch):
    """A watch that keeps the losses it sees."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.seen: list[float] = []

    def see(self, step: int, value: Tensor, what: str) -> Tensor | float:
        """Note a loss, then watch as ever."""
        if what == "loss":
            self.seen.append(float(value))
        return super().see(step, value, what)


@check(stage="learning", moment="fast", recipe="Hacker's Guide: one datapoint, then a few, then all")
def step_lowers_loss(subject: Subject) -> Finding:
    """Loss on 32 rows of the first batch before and after at most 20 steps, under the same noise.

    0.3 s are enough where the loss falls; where it does not, all 20 steps are taken (3 s at most), so that no verdict hangs on the time.
    """
    if subject.loss_task is None:
        return skipped("players that oppose each other need not lower each other's loss")
    if subject.expects.get("loss_may_rise"):
        return skipped("declared by expects.loss_may_rise")
    if subject.run.steps == 0:
        return skipped("train.steps is 0")
    run = subject.copy()
    if not run.optimizers:
        return skipped("no parameter is trainable")
    batch = subject.prepared(run, subject.few)
    before, start = subject.batch_loss(run, batch), _weights(run)
    draws = 1 if before == subject.batch_loss(run, batch, draws=2) else DRAWS
    before = before if draws == 1 else subject.batch_loss(run, batch, draws=draws)
    numbers: dict[str, Any] = {"before": before, "draws": draws}
    losses = Losses(run.device)
    try:
        done, after, rates = _trial(subject, run, batch, losses, before, draws)
    except NonFinite as error:
        text = f"non-finite {error.what} in step {error.step} on one batch, from a loss of {before:.4f}"
        numbers |= {"step": error.step, "losses": losses.seen[:STEPS]}
        return Finding("error", text, "the steps are far too large", "try a tenth of the learning rate", numbers, RULE)
    numbers |= {"after": after, "steps": done, "losses": losses.seen, "rates": rates}
    text = f"loss on one batch {before:.4f} -> {after:.4f} in {done} steps"
    if after < before or min(losses.seen[1:], default=before) < before - _noise(subject, run, batch, draws):
        return Finding("ok", text, numbers=numbers, threshold=RULE)
    if all(torch.equal(old, new) for old, new in zip(start, _weights(run), strict=True)):
        return _still(subject, text, before, rates, numbers)
    return _risen(subject, run, batch, text, numbers)


def _trial(subject: Subject, run: Run, batch: Any, losses: Losses, before: float, draws: int) -> tuple[int, float, list[float]]:
    """Steps taken, loss after them, and the learning rates they were taken at."""
    begun, done, rates = time.perf_counter(), 0, []
    for done in subject.fit(run, subject.few, STEPS, losses):
        rates.append(max((float(group.get("lr", 1.0)) for o in run.optimizers.values() for group in o.param_groups), default=0.0))
        gone = time.perf_counter() - begun
        if done >= LEAST and (gone > AT_MOST or (gone > SECONDS and subject.batch_loss(run, batch, draws=draws) < before)):
            break
    after = subject.batch_loss(run, batch, draws=draws)
    if not math.isfinite(after):
        raise NonFinite(done, "loss")
    return done, after, rates


def _weights(run: Run) -> list[Tensor]:
    return [p.detach().clone() for module in run.modules.values() for p in module.parameters() if p.requires_grad]


def _noise(subject: Subject, run: Run, batch: Any, draws: int) -> float:
    """How far one draw of the loss may lie from another by chance alone: 3 standard deviations."""
    if draws == 1:
        return 0.0
    singles = torch.tensor([float(subject.loss_of(run, subject.outputs(run, batch, training=True, key=f"n{i}"), batch)) for i in range(6)])
    return 3 * float(singles.std())


def _still(subject: Subject, text: str, before: float, rates: list[float], numbers: dict[str, Any]) -> Finding:
    """The verdict on weights that did not change."""
    if max(rates, default=0.0) == 0 or len(rates) < LEAST:
        return Finding("info", f"{text}: the learning rate is {max(rates, default=0.0):g} there", numbers=numbers, threshold=RULE)
    floor = subject.floor
    if floor is not None and before <= floor + 1e-6:
        return Finding("info", f"{text}: there is nothing left to learn", numbers=numbers, threshold=RULE)
    cause = "no gradient reaches them, the optimizer holds others, or its steps are too small to change a float"
    return Finding("error", f"{text}: no weight moved", cause, "look at lr and requires_grad, and for detach()", numbers, RULE)


def _risen(subject: Subject, run: Run, batch: Any, text: str, numbers: dict[str, Any]) -> Finding:
    """The verdict on a loss that never fell though weights moved."""
    before, after, done = numbers["before"], numbers["after"], numbers["steps"]
    numbers["chance"] = chance = _chance(subject, batch)
    noise = numbers["noise"] = _noise(subject, run, batch, numbers["draws"])
    far = after > before + max(abs(before), noise) and after > 1.5 * max(chance, before)
    cause, step = "the steps are far too large, or go uphill", "try a tenth of the learning rate; look at the loss's sign"
    if far:
        return Finding("error", text, cause, step, numbers, RULE)
    uphill = done >= STEPS // 2 and after - before > max(noise, 0.01 * abs(before)) and before > 0.5 * chance
    if uphill and all(a <= b for a, b in pairwise(numbers["losses"])):
        return Finding("error", f"{text}, higher with every step", "the steps go uphill", "look at the optimizer's sign", numbers, RULE)
    level = "warning" if uphill else "info"
    return Finding(level, f"{text}: it did not fall", cause, step, numbers, RULE)


def _chance(subject: Subject, batch: Any) -> float:
    """The loss of the untouched networks on targets of other rows: what a start from scratch costs."""
    run, y = subject.copy(), batch.get("y")
    shuffled = batch.replace(y=y.roll(1, 0)) if isinstance(y, Tensor) else batch
    return subject.batch_loss(run, shuffled)
