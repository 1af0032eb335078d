"""The ladder: one row, eight, one batch, with --deep a small subset, each learned by heart. A wiring test, no proof of anything else.

The verdict is that of the batch: a network that cannot learn 32 rows by heart cannot learn the data. The lower rungs say where it falls:
from the first, the wiring; from the second, rows that are not told apart; from the batch, capacity or targets that contradict each other.

A loss that falls but not to the goal is no fault by itself: a linear model has a floor of its own, small rates need more steps, targets
that contradict each other cannot be learned. An error needs a loss that did not fall at all, or outputs that are the same for every row.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.batch import Batch, leaves
from dlrun.checks._frame import FEW, Finding, Subject, check, skipped, tensors
from dlrun.checks._pairs import alone
from dlrun.checks._rates import rates
from dlrun.checks.mode_switch import DROPOUTS
from dlrun.finite import NonFinite, Watch
from dlrun.loop import train_step
from dlrun.run import Run
from dlrun.schedule import Scheduler
from dlrun.steplog import StepLog

STEPS, SHARE, SECONDS, RUNG = 300, 0.05, 3.5, 0.6
RATES = (1.0, 3.0, 0.3)
ENOUGH = 100
"""Steps from which on a loss that is no lower than at first is worth a warning, where the time is used up."""
ROOTS = (
    "item_stability",
    "constant_input",
    "lr_sanity",
    "schedule_preview",
    "decay_groups",
    "step_lowers_loss",
    "update_size",
    "grads_cleared",
    "optimizer_owns",
    "frozen_report",
)
SUBSET, PATIENT = 256, 10.0
CLEAR, SOME, NONE = 0.3, 0.05, 0.01
"""Share of the loss that fell: clearly, somewhat, not at all."""


@dataclass
class Attempt:
    """What came of training on the fixed rows at one learning rate."""

    rate: float
    before: float
    after: float
    steps: int
    reached: bool = False
    falling: bool = False
    """Whether the loss still fell when the steps were used up."""
    late: bool = False
    alike: bool = False
    """Whether the outputs at the end are the same for every row, though inputs and targets differ."""

    @property
    def fell(self) -> float:
        """Share of the first loss that went away."""
        return (self.before - self.after) / max(abs(self.before), 1e-12)


@check(
    stage="learning",
    moment="check",
    recipe="Hacker's Guide: one datapoint, then a few, then all; Karpathy: overfit one batch",
    follows=ROOTS,
)
def overfit_1_batch_few(subject: Subject) -> Finding:
    """Up to 300 steps on 32 fixed rows with the real optimizer, dropout off, at its base rate; at 3 and 0.3 times it if that fails."""
    if subject.loss_task is None:
        return skipped("players that oppose each other have no loss to drive down")
    if subject.expects.get("loss_may_rise"):
        return skipped("declared by expects.loss_may_rise")
    if not subject.run.optimizers:
        return skipped("no parameter is trainable")
    raw, tried = subject.few, []
    floor = subject.floor
    rungs = _lower(subject, floor)
    deadline = time.thread_time() + SECONDS
    for factor in RATES:
        tried.append(attempt(subject, raw, factor, floor, deadline))
        if tried[-1].reached or tried[-1].late:
            break
    best = next((entry for entry in tried if entry.reached), min(tried, key=lambda entry: entry.after))
    rule = f"loss <= floor + {SHARE:.0%} of (first loss - floor)" if floor is not None else f"loss falls by {CLEAR:.0%}"
    numbers = {"tries": [vars(entry) for entry in tried], "before": best.before, "after": best.after, "steps": best.steps, "floor": floor}
    numbers["rungs"] = {rows: vars(entry) for rows, entry in rungs.items()}
    text = f"one batch of {len(raw)} rows: loss {best.before:.4f} -> {best.after:.4f} in {best.steps} steps"
    if best.rate != 1:
        text += f" (at {best.rate:g} times the learning rate)"
    below = "".join(f"; {rows} row{'s' * (rows > 1)}: {_said(entry)}" for rows, entry in rungs.items())
    if best.reached:
        above = _subset(subject, floor, numbers) if subject.patience > PATIENT else ""
        return Finding("ok" if best.rate == 1 else "info", f"overfitted {text}{below}{above}", numbers=numbers, threshold=rule)
    level, reason = verdict(tried, best, floor)
    level, reason = _by_itself(subject, raw, best, level, reason)
    cause, step = _fall(rungs)
    return Finding(level, f"not overfitted: {text}; {reason}{below}", cause, step, numbers, rule)


def _by_itself(subject: Subject, raw: Batch, best: Attempt, level: str, reason: str) -> tuple[str, str]:
    """No fault where a network came down to all that a token says of the next: without layers between positions it knows no more."""
    if level != "warning" or subject.floor is None or subject.kind not in ("language_model", "sequence"):
        return level, reason
    least = alone(subject.prepared(subject.copy(), raw))
    if least is None or best.after > least + SHARE * (best.before - least):
        return level, reason
    return "info", f"each token says no more of the next in these rows ({least:.4f} nats): right for a network that looks at no other token"


def _lower(subject: Subject, floor: float | None) -> dict[int, Attempt]:
    """Attempts on 1 and on 8 rows at the base rate; without those that a network cannot take (batch norm, losses over pairs)."""
    rungs: dict[int, Attempt] = {}
    coupled = subject.run.task.couples_rows or subject.kind == "contrastive" or subject.expects.get("rows_interact")
    for rows in () if coupled else (1, 8):
        if len(subject.few) <= rows:
            continue
        try:
            rungs[rows] = attempt(subject, subject.few[:rows], 1.0, floor, time.thread_time() + RUNG)
        except (RuntimeError, ValueError, IndexError):  # of a single row batch norm has no variance, and axes of length 1 are squeezed away
            continue
    return rungs


def _said(entry: Attempt) -> str:
    return f"{'learned' if entry.reached else 'not learned'}, {entry.before:.3f} -> {entry.after:.3f} in {entry.steps} steps"


def _fall(rungs: dict[int, Attempt]) -> tuple[str, str]:
    """(cause, next step) of a fall from the batch, by what the lower rungs gave."""
    if rungs and not any(entry.reached or entry.fell > CLEAR for entry in rungs.values()):
        return "a broken path: not even a single row is learned", "look at gradients, at the form of the output, and at the loss of one row"
    if 1 in rungs and 8 in rungs and rungs[1].fell > CLEAR and not rungs[8].fell > CLEAR:
        return "rows are not told apart: the input does not reach the output, or rows are mixed", "compare the outputs of two rows"
    return "targets that do not belong to the inputs, a broken path, or too little capacity", "try one single row"


def _subset(subject: Subject, floor: float | None, numbers: dict[str, Any]) -> str:
    """What the top rung gave: up to 256 rows in batches (with --deep)."""
    rows = subject.rows("train", SUBSET).batch
    run = replace(subject.copy(), steps=10 * STEPS)
    without_noise(run, 1.0, peaks(subject))
    prepared = subject.prepared(run, rows)
    first = last = subject.batch_loss(run, prepared, training=False)
    goal = first - CLEAR * abs(first) if floor is None else floor + SHARE * (first - floor)
    log, watch, done, deadline = StepLog(), Watch(run.device), 0, time.perf_counter() + SECONDS
    for module in run.modules.values():
        module.train()
    size = min(FEW, len(rows))
    while done < 10 * STEPS and last > goal and time.perf_counter() < deadline:
        for _ in range(20):
            at = (done * size) % max(len(rows) - size + 1, 1)
            log.begin(False)
            train_step(run, done, [rows[at : at + size].map(torch.clone)], log, watch)
            done += 1
        last = subject.batch_loss(run, prepared, training=False)
    numbers["subset"] = {"rows": len(rows), "before": first, "after": last, "steps": done, "reached": last <= goal}
    return f"; {len(rows)} rows: {'learned' if last <= goal else 'not learned'}, {first:.3f} -> {last:.3f} in {done} steps"


def verdict(tried: list[Attempt], best: Attempt, floor: float | None) -> tuple[str, str]:
    """Level and reason where no attempt reached the goal."""
    if all(entry.alike for entry in tried):
        return "error", "every row gets the same output"
    if best.late:
        stays = all(entry.fell <= 0 for entry in tried) and best.steps >= ENOUGH
        return "warning" if stays else "info", f"stopped after {SECONDS:g} s, {'it did not fall' if stays else 'too early to tell'}"
    if all(entry.fell < NONE and not entry.falling for entry in tried):
        return "error", "it did not fall at any rate"
    if best.fell >= CLEAR:
        return "info", "it still falls" if best.falling else "it fell and stays there: the capacity, or rows that contradict each other"
    if best.falling:
        return "info", "it still falls, slowly: a small rate"
    if floor is None and best.fell >= SOME:
        return "info", "it fell; how far this loss can fall is not known"
    return "warning", "it hardly fell"


def attempt(subject: Subject, raw: Batch, factor: float, floor: float | None, deadline: float) -> Attempt:
    """Train a copy at `factor` times the learning rate until the goal, the last step or the deadline."""
    run = replace(subject.copy(), steps=STEPS)
    without_noise(run, factor, peaks(subject))
    prepared = subject.prepared(run, raw)
    first = subject.batch_loss(run, prepared)
    goal = first - CLEAR * abs(first) if floor is None else floor + SHARE * (first - floor)
    if floor is not None and first <= floor + 1e-4:
        return Attempt(factor, first, first, 0, reached=True)  # a start that knows these rows by heart
    curve = [first]
    try:
        for done in subject.fit(run, raw, STEPS):
            late = time.thread_time() > deadline
            if done % 5 and done != STEPS and not late:
                continue
            curve.append(subject.batch_loss(run, prepared))
            if curve[-1] <= goal:
                return Attempt(factor, first, curve[-1], done, reached=True)
            if late:
                return Attempt(factor, first, curve[-1], done, late=True)
    except NonFinite as error:
        return Attempt(factor, first, float("inf"), error.step)
    return Attempt(factor, first, curve[-1], STEPS, falling=_falls(curve), alike=_alike(subject, run, prepared))


def _falls(curve: list[float]) -> bool:
    """Whether the last third of the curve lies below the third before by more than 1 % of the first loss, or 5 % of itself."""
    third = max(len(curve) // 3, 1)
    last, middle = sum(curve[-third:]) / third, sum(curve[-2 * third : -third]) / max(len(curve[-2 * third : -third]), 1)
    return middle - last > min(0.01 * abs(curve[0]), 0.05 * abs(middle))


def _alike(subject: Subject, run: Run, batch: Batch) -> bool:
    """Whether every row gets the same output though inputs and targets differ from row to row."""
    y, outputs = batch.get("y"), tensors(subject.outputs(run, batch, training=False))
    known: Any = [*leaves(batch.get("x", ()))]
    if not isinstance(y, Tensor) or not known or not outputs or not all(len(out) == len(batch) for out in outputs if out.dim()):
        return False
    differ = all(any(not torch.equal(value[:1].expand_as(value), value) for value in some) for some in ([y], known))
    same = all(float((out - out[:1]).abs().max()) <= 1e-6 * float(out.abs().max()) for out in outputs if out.dim() and out.numel())
    return differ and same


def peaks(subject: Subject) -> dict[str, float]:
    """The highest rate of each schedule over its base rate: where the base is 1 and the schedule says the rate, a thousandth of it."""
    found: dict[str, float] = {}
    for one in rates(subject):
        if one.base > 0 and one.peak > 0 and not one.error:
            found[one.slot] = max(found.get(one.slot, 0.0), one.peak / one.base)
    return found


def without_noise(run: Run, factor: float, shares: Mapping[str, float] | None = None) -> None:
    """Dropout off, rates constant at `factor` times the base rate, or that `shares` of it."""
    for module in run.modules.values():
        for part in module.modules():
            if isinstance(part, DROPOUTS):
                part.p = 0.0
            if isinstance(part, (nn.RNNBase, nn.MultiheadAttention)):
                part.dropout = 0.0
    for name, optimizer in run.optimizers.items():
        for group in optimizer.param_groups:
            if "lr" in group:
                group["lr"] = copy.copy(group.get("initial_lr", group["lr"])) * (shares or {}).get(name, 1.0) * factor
        run.schedulers[name] = Scheduler(optimizer, STEPS, multiplier=_constant)


def _constant(step: int, steps: int) -> float:
    return 1.0
