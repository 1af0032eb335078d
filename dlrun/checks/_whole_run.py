"""The whole training, or a good part of it, at the rates it will have, beside the same at a tenth or ten times of them.

A few steps on one batch say little of a rate that rises later, dies away inside the optimizer, or is only somewhat too small for the steps
there are. It is asked only where steps change weights by very little, or by a lot.
"""

from __future__ import annotations

from typing import Any

from dlrun.checks._decayed import Course, course
from dlrun.checks._finding import Finding
from dlrun.checks._frame import Subject
from dlrun.checks._rates import rates
from dlrun.checks._stream import as_it_is, beside
from dlrun.checks._trial import Trial, Watched, chance
from dlrun.run import Run

SMALL, BIG, SHORT, STEPS = 0.003, 0.12, 50, 1000
KNOWS, LEARNS, LESS, NONE, WELL, LOST = 0.6, 0.15, 0.35, 0.05, 0.3, 10.0
FACTORS = (10.0, 100.0)
APART, TRIED, MORE = 100.0, 100, 1.5
RULE = (
    f"the whole run lowers the loss of train and val by {LESS:.0%} of what it does at ten times the rate; "
    f"it lowers it by {NONE:.0%} where a tenth of the rate lowers it by {WELL:.0%}"
)


def whole(subject: Subject, found: Trial, middle: float, shown: str, numbers: dict[str, Any]) -> Finding | None:
    """The finding on rates that are too low for the run's steps, or that undo what was learned."""
    run, tried = subject.run, max(found.rates, default=0.0)
    peak = max((one.peak for one in rates(subject) if not one.error), default=0.0)
    largest = middle * max(peak / tried, 1.0) if tried > 0 else middle
    if subject.patience < 1 or subject.expects.get("pretrained") or run.config.get("start") or run.steps < SHORT or middle <= 0:
        return None
    low = middle < SMALL and run.steps <= STEPS
    if not (low or largest > BIG) or subject.run.task.couples_rows:
        return None
    there = course(subject, as_it_is, run.steps)
    numbers["whole_run"] = vars(there) if there else "not tried: it broke, or its steps take too long"
    if there is None:
        return None
    if largest > BIG:
        return _too_high(subject, there, shown, numbers)
    if there.steps < run.steps or found.before < KNOWS * chance(subject, found.batch):
        return None
    return _too_low(subject, there, shown, numbers)


def _too_low(subject: Subject, there: Course, shown: str, numbers: dict[str, Any]) -> Finding | None:
    for factor in FACTORS:
        other = course(subject, lambda run, by=factor: _scaled(run, by), there.steps)  # type: ignore[misc]
        if other is None or other.steps < there.steps:
            continue
        pairs = [(there.train, other.train), (there.val, other.val)]
        if all(b[0] - b[-1] > LEARNS * abs(b[0]) and a[0] - a[-1] < LESS * (b[0] - b[-1]) for a, b in pairs):
            text = f"{shown}: all {there.steps} steps of the run take {_said(there)}, at {factor:g} times the rate {_to(other)}"
            cause = "the learning rate is too low for that many steps, or the optimizer's steps die away"
            return Finding("warning", text, cause, f"try {factor:g} times the rate; look at eps, dampening and decays in it", numbers, RULE)
    return None


def _too_high(subject: Subject, there: Course, shown: str, numbers: dict[str, Any]) -> Finding | None:
    fell = [losses[0] - losses[-1] > NONE * abs(losses[0]) for losses in (there.train, there.val)]
    lost = there.val[-1] > LOST * max(abs(there.val[0]), chance(subject, subject.prepared(subject.copy(), subject.few)))
    if any(fell) and not lost:
        return None
    for factor in (*FACTORS, FACTORS[-1] * 10):
        other = course(subject, lambda run, by=factor: _scaled(run, 1 / by), there.steps)  # type: ignore[misc]
        if other and all(losses[0] - losses[-1] > WELL * abs(losses[0]) for losses in (other.train, other.val)):
            text = f"{shown}: {there.steps} steps of the run take {_said(there, lost)}, at 1/{factor:g} of the rate {_to(other, lost)}"
            cause = "the learning rate is too high, or rises too high"
            return Finding("warning", text, cause, f"try 1/{factor:g} of it, and look at the peak of the schedule", numbers, RULE)
    return None


def _said(found: Course, val: bool = False) -> str:
    losses = found.val if val else found.train
    return f"the loss of rows of {'val' if val else 'train'} from {losses[0]:.4g} to {losses[-1]:.4g}"


def _to(found: Course, val: bool = False) -> str:
    return f"to {(found.val if val else found.train)[-1]:.4g}"


def uneven(subject: Subject, shown: str, numbers: dict[str, Any]) -> Finding | None:
    """The finding on a group whose rate is next to nothing beside that of another, where the same rate for both learns far more."""
    run = subject.run
    if subject.patience < 1 or subject.expects.get("pretrained") or run.config.get("start") or run.steps < SHORT:
        return None
    for slot, optimizer in run.optimizers.items():
        groups = [group for group in optimizer.param_groups if isinstance(group.get("lr"), (int, float))]
        top = max((group["lr"] for group in groups), default=0.0)
        slow = [group for group in groups if 0 < group["lr"] * APART < top]
        if not any(p.dim() > 1 for group in slow for p in group["params"]):
            continue
        before, after, evened, done = beside(subject, lambda run, slot=slot: _evened(run, slot), TRIED)  # type: ignore[misc]
        numbers |= {"new_before": before, "new_after": after, "new_evened": evened}
        if after - evened > LEARNS * abs(before) and before - evened > MORE * (before - after):
            count, rate = sum(len(group["params"]) for group in slow), min(group["lr"] for group in slow)
            text = f"{shown}: {count} parameters have a rate of {rate:.3g} beside {top:.3g} of others; {done} steps take the loss of new "
            text += f"batches from {before:.4g} to {after:.4g}, with {top:.3g} for all to {evened:.4g}"
            cause = "a group was given next to no rate, as for pretrained weights, and nothing in it is pretrained"
            return Finding("warning", text, cause, "give it the rate of the others, or declare expects.pretrained", numbers, RULE)
    return None


def _evened(run: Run, slot: str) -> None:
    run.optimizers[slot] = made = _Scaled(run.optimizers[slot], lambda: None, lambda: None)
    made.even = True


class _Scaled(Watched):
    """An optimizer whose groups have `factor` times their rate while it steps."""

    factor = 1.0
    even = False
    """Whether groups with far less than the highest rate get that."""

    def step(self, *given: Any, **named: Any) -> Any:
        """Step the one inside at `factor` times the rates."""
        groups = [group for group in self.inner.param_groups if isinstance(group.get("lr"), (int, float))]
        kept = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = max(kept) if self.even and group["lr"] * APART < max(kept) else group["lr"] * self.factor
        result = self.inner.step(*given, **named)
        for group, rate in zip(groups, kept, strict=True):
            group["lr"] = rate
        return result


def _scaled(run: Run, factor: float) -> None:
    """Every rate `factor` times as high, whoever sets it."""
    for slot, optimizer in run.optimizers.items():
        run.optimizers[slot] = made = _Scaled(optimizer, lambda: None, lambda: None)
        made.factor = factor
