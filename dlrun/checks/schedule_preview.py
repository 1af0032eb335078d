"""What the schedule will do to the learning rate, step by step, before it does it.

The catalogue's row holds the peak against the base rate (below 10 %: a warning). Noam's schedule has a peak of 0.001 at a base of 1, so
such a peak is judged by what comes of it: where 100 steps at the base rate learn at least twice as much, the factor is wrong (most often
it is the rate itself, by which the rate is multiplied again). Cycles rise late too, but not above their first peak. Runs of fewer than 50
steps are trials, whose warm-up may well be longer than they are.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._rates import Rates, rates, sketch
from dlrun.checks._stream import at_base_rate, beside

SHORT, WARMING = 50, 100
ZERO, LOW, MEAN, LATE = 0.4, 0.7, 0.1, 10.0
NEVER, TRIED, TWICE, LEARNS = 0.11, 100, 2.0, 0.15
WARMS = "the warm-up is longer than the run (in another unit?), or the schedule runs the wrong way round"
RULE = (
    f"error: negative, not finite, 0 throughout, or it raises; warning: 0 in > {ZERO:.0%} of steps, < 1 % of its peak in > {LOW:.0%} "
    f"with a mean < {MEAN:.0%} of it, rising to the very end, or {LATE:g} times higher in the second half than ever before, or "
    f"never above {NEVER:.0%} of lr where lr itself learns {TWICE:g} times as much in {TRIED} steps"
)


@check(stage="update", moment="fast", recipe="plot the learning rate before you train with it")
def schedule_preview(subject: Subject) -> Finding:
    """The rates of all steps of the run (some 4,000 of them in longer runs), by group."""
    run = subject.run
    if run.steps == 0 or not run.schedulers:
        return skipped("train.steps is 0" if run.steps == 0 else "nothing is scheduled")
    found = rates(subject)
    if not found:
        return skipped("the optimizer's groups have no lr")
    verdicts = [_judge(one, run.steps, len(run.schedulers) > 1) for one in found]
    order = ("error", "warning", "info", "ok")
    worst = min(verdicts, key=lambda finding: order.index(finding.level))
    return worst if worst.level in order[:2] else _never_up(subject, found, worst) or worst


def _never_up(subject: Subject, found: list[Rates], shape: Finding) -> Finding | None:
    """The verdict on rates that never come near the base rate, where that would learn far more; asked on request only."""
    share = max(one.peak / one.base if one.base > 0 else 1.0 for one in found)
    tuned = subject.expects.get("pretrained") or subject.run.config.get("start")
    if share > NEVER or subject.patience < 1 or subject.loss_task is None or subject.run.steps < SHORT or tuned:
        return None
    before, after, at_base, done = beside(subject, at_base_rate, TRIED)
    numbers = shape.numbers | {"share": share, "before": before, "after": after, "at_base": at_base, "tried": done}
    if not (before - at_base > LEARNS * abs(before) and before - at_base > TWICE * (before - after)):
        return None
    text = f"{shape.message}: never above {_short(100 * share)} % of lr {_short(max(one.base for one in found))}"
    text += f"; {done} steps take the loss from {before:.4g} to {after:.4g}, at lr itself to {at_base:.4g}"
    cause = "the schedule gives the learning rate itself, by which lr is multiplied once more"
    return Finding("warning", text, cause, "return a factor of lr, 1 at its peak", numbers, RULE)


def _judge(one: Rates, steps: int, several: bool) -> Finding:
    """The verdict on the rates of one group."""
    who = f"schedule of {one.slot}" if several else "schedule"
    values, peak = one.values, one.peak
    numbers: dict[str, Any] = {"first": values[:1], "peak": peak, "last": values[-1:], "mean": one.mean, "base": one.base, "steps": steps}
    if one.error:
        text = f"the {who} raises at step {one.failed_at} of {steps}: {one.error}"
        cause = "its length is given in another unit (epochs), or it is shorter than the run"
        cause = cause if one.failed_at > 1 else "its formula is not defined at step 0, or it asks for what does not exist"
        return Finding("error", text, cause, "give it the run's steps: the function's argument `steps`", numbers, RULE)
    shape = f"{_short(values[0])} -> {_short(values[-1])}, peak {_short(peak)}" if len({*values}) > 1 else f"constant {_short(values[0])}"
    text = f"{who} [{sketch(values)}]: {shape} in {len(values) if not one.whole else steps} steps"
    wrong = _certain(values) or (_likely(values, one) if steps >= SHORT and one.whole else None)
    if wrong:
        level, what, cause, step = wrong
        return Finding(level, f"{text}: {what}", cause, step, numbers, RULE)
    cycles = _cycles(values)
    if cycles > 10:
        numbers["cycles"] = cycles
        return Finding("info", f"{text}: {cycles} cycles; is its period given in epochs?", numbers=numbers, threshold=RULE)
    return Finding("ok", text, numbers=numbers, threshold=RULE)


def _short(value: float) -> str:
    return f"{value:.3g}"


def _certain(values: list[float]) -> tuple[str, str, str, str] | None:
    """(level, what, cause, next) for rates that no schedule means."""
    negative = [number for number, value in enumerate(values) if value < 0]
    broken = [number for number, value in enumerate(values) if not math.isfinite(value)]
    if broken:
        step = "look at divisions by 0 and roots in it, at step 0 most of all"
        return "error", f"the rate is {values[broken[0]]} at step {broken[0] + 1}", "the schedule's formula is undefined there", step
    if negative:
        flips = sum((a < 0) != (b < 0) for a, b in pairwise(values))
        what = f"the rate is negative in {len(negative)} steps ({flips} changes of sign): those go uphill"
        return "error", what, "the schedule's formula falls below 0, or its sign is wrong", "keep it at or above 0: max(0.0, ...)"
    if max(values) == 0:
        return "error", "the rate is 0 in every step: nothing is trained", "lr is 0, or the schedule gives 0", "look at lr and the schedule"
    return None


def _likely(values: list[float], one: Rates) -> tuple[str, str, str, str] | None:
    """The same for shapes that hardly anybody means."""
    n, peak = len(values), max(values)
    unit = "its length is given in another unit (epochs for steps, or the other way round)"
    zeros, low = sum(v == 0 for v in values) / n, sum(v <= 0.01001 * peak for v in values) / n
    if zeros > ZERO:
        return "warning", f"the rate is exactly 0 in {zeros:.0%} of the steps: these train nothing", unit, "give it the length of the run"
    if low > LOW and sum(values) / n < MEAN * peak:
        return "warning", f"the rate is below 1 % of its peak in {low:.0%} of the steps", unit, "give it the length of the run, in steps"
    rising = all(b >= a * (1 - 1e-9) for a, b in pairwise(values))
    if n >= WARMING and rising and values[-1] > 2 * values[n // 20] and values[-1] > values[-1 - n // 20] * 1.005:
        reach = f", at {values[-1] / one.base:.0%} of lr" if one.multiplied and one.base > 0 else ""
        return (
            "warning",
            f"the rate still rises at the last step{reach}",
            "the warm-up is longer than the run",
            "shorten it, or train longer",
        )
    half = max(values[: n // 2])
    if max(values[n // 2 :]) > LATE * half:
        what = f"the rate rises late: to {max(values[n // 2 :]) / half if half else math.inf:.3g} times what it was in the first half"
        return "warning", what, "the schedule runs the wrong way round, or its warm-up is too long", "plot it; it should be high early"
    return None


def _cycles(values: list[float]) -> int:
    """How often the rate falls below a tenth of its peak and rises above nine tenths again."""
    peak, low, count = max(values), False, 0
    for value in values:
        if value < 0.1 * peak:
            low = True
        elif low and value > 0.9 * peak:
            low, count = False, count + 1
    return count
