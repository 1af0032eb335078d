"""Learning-rate range test: where the loss falls fastest, where it breaks, and where the configured rate lies between.

Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3; geometric sweep on a copy, the schedule left out.
"""

from __future__ import annotations

import math
from typing import Any

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._pulse import base_rate
from dlrun.checks._rates import idle, rates
from dlrun.checks.overfit_1_batch_few import without_noise
from dlrun.finite import NonFinite, Watch
from dlrun.loop import train_step
from dlrun.run import Run
from dlrun.steplog import StepLog

STEPS, LOW, HIGH, SMOOTH, FACTOR = 120, 1e-5, 1e4, 0.8, 3.0
RULE = "warning: the peak of the schedule is above the rate at which the loss breaks; info: 100 times the rate is still stable and no worse"


@check(
    stage="learning",
    moment="deep",
    recipe="Smith 2017: learning-rate range test",
    follows=("lr_sanity", "schedule_preview", "step_lowers_loss"),
)
def lr_range(subject: Subject) -> Finding:
    """120 steps on the run's batches with rates from 1e-5 to 1e4 times the base rate; the loss smoothed over about five steps."""
    reason = idle(subject)
    if reason:
        return skipped(reason)
    if subject.loss_task is None:
        return skipped("several players have no single loss to watch")
    groups = [group for o in subject.run.optimizers.values() for group in o.param_groups if isinstance(group.get("lr"), (int, float))]
    base = max((base_rate(group) for group in groups), default=0.0)
    if base <= 0:
        return skipped("no group has a rate above 0")
    peak = max((one.peak for one in rates(subject)), default=base)
    tried, losses = _sweep(subject, base)
    numbers: dict[str, Any] = {"base": base, "peak": peak, "rates": tried, "losses": losses}
    if len(losses) < 10:
        return Finding("info", "the loss breaks at the lowest rate tried", numbers=numbers, threshold=RULE)
    broken = _breaks(losses)
    steepest = tried[min(range(5, broken), key=lambda n: losses[n] - losses[n - 5], default=0)]
    numbers |= {"steepest": steepest, "largest_stable": tried[broken - 1], "diverges": broken < len(tried)}
    text = f"the loss falls fastest at lr {steepest:.2g}"
    if broken == len(tried):
        low = f"yours peaks at {peak:.2g}: far too low" if peak * 100 < steepest else "clipping, or steps that know no length, hold it"
        return Finding("info", f"{text} and never diverges up to {tried[-1]:.2g}; {low}", numbers=numbers, threshold=RULE)
    text += f", is stable up to {tried[broken - 1]:.2g}; yours peaks at {peak:.2g}"
    if peak > FACTOR * tried[broken]:
        cause = "the learning rate is above what these steps can bear without a warm-up"
        return Finding("warning", text, cause, f"try {steepest / 3:.1g} to {steepest:.1g}", numbers, RULE)
    if peak * 100 < steepest:
        return Finding("info", f"{text}: far below; try {steepest / 10:.1g}", numbers=numbers, threshold=RULE)
    return Finding("ok", text, numbers=numbers, threshold=RULE)


def _sweep(subject: Subject, base: float) -> tuple[list[float], list[float]]:
    """(rates, smoothed losses) up to where the loss is not finite or ten times its start."""
    run, tried, losses = subject.copy(), [], list[float]()
    without_noise(run, 1.0)
    run.steps = STEPS
    average, weight = 0.0, 0.0
    for step in range(STEPS):
        factor = LOW * (HIGH / LOW) ** (step / (STEPS - 1))
        try:
            loss = _step(run, step, factor)
        except NonFinite:
            tried.append(base * factor)
            losses.append(math.inf)
            break
        average, weight = SMOOTH * average + (1 - SMOOTH) * loss, SMOOTH * weight + 1 - SMOOTH
        tried.append(base * factor)
        losses.append(average / weight)
        if abs(losses[-1]) > 20 * max(abs(losses[0]), 1e-3):
            break
    return tried, losses


class _First(Watch):
    """A watch that keeps the first loss it sees."""

    value: float = math.nan

    def see(self, step: int, value: Any, what: str) -> Any:
        """Note a loss, then watch as ever."""
        if what == "loss" and math.isnan(self.value):
            self.value = float(value)
        return super().see(step, value, what)


def _step(run: Run, step: int, factor: float) -> float:
    """One step at `factor` times the base rates; the loss before it."""
    for scheduler in run.schedulers.values():
        scheduler.multiplier, scheduler._last = (lambda _, __: factor), None
    watch, log = _First(run.device), StepLog()
    log.begin(False)
    for module in run.modules.values():
        module.train()
    train_step(run, step, run.data.batches(step), log, watch)
    return watch.value


def _breaks(losses: list[float]) -> int:
    """The first place from which the loss stays above its start by half the fall; the length where it never does."""
    first, least = losses[0], min(value for value in losses if math.isfinite(value))
    bound = first + max(0.5 * (first - least), 0.1 * abs(first))
    place = len(losses)
    while place > 0 and not losses[place - 1] <= bound:
        place -= 1
    return max(place, 1)
