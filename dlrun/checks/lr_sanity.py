"""Learning rate, eps and clipping: can this run's steps do anything, and do the rate's knobs act?

The catalogue's table of rates (Adam 1e-6 to 3e-2, SGD 1e-5 to 1) cries wolf on sign descent, muP, pretrained weights and losses in units of
their own. What a rate does is measured instead: the first-order fall of the loss by one step, times the steps of the run (1,000 at least)
at the scheduled rates, and how far the weights can get in them. Both bounds must say "nothing", and the same steps many times larger must
do well, before anything is said. Rates that are too high show in the loss of the trial.
"""

from __future__ import annotations

import math
from typing import Any

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._pulse import Pulse, pulses
from dlrun.checks._rates import idle, rates
from dlrun.checks._stream import as_it_is, beside, streamed
from dlrun.checks._trial import STEPS, Trial, chance, trial, try_anew
from dlrun.checks._whole_run import uneven, whole
from dlrun.run import Run

HORIZON, NOTHING, USUAL, LEARNS, LARGE = 1000, 0.05, 3e-3, 0.1, 0.3
WORKS = 0.05
TRIED, UNCLIPPED, LESS = 30, 100, (30.0, 3000.0)
KNOWS = 0.6
"""A loss below this share of that of shuffled targets is one of a network that has learned before."""
RULE = (
    f"warning: over the run the loss can fall by < {NOTHING:.0%} and weights move by < {NOTHING:.0%}, while steps {USUAL:g} of their size "
    f"lower it by > {WORKS:.0%}; steps of > {LARGE:g} of the weights that raise it, while a thirtieth of the rate lowers it"
)
ROOTS = ("optimizer_owns", "frozen_report", "update_size", "grads_cleared", "schedule_preview")


@check(stage="update", moment="check", recipe="Karpathy: 3e-4 is where to start for Adam; the ratio of updates to weights", follows=ROOTS)
def lr_sanity(subject: Subject) -> Finding:
    """What a fresh optimizer's step does at the base rate, and what the scheduled rates make of it over the run."""
    reason = idle(subject)
    if reason:
        return skipped(reason)
    found, answers = trial(subject), pulses(subject)
    shown = ", ".join(f"{answer.slot} " * (len(answers) > 1) + f"lr {answer.rate:.3g}" for answer in answers)
    numbers: dict[str, Any] = {"pulses": [vars(answer) for answer in answers], "before": found.before, "after": found.after}
    wrong = _up(answers, numbers) or _deaf(subject, answers, numbers)
    if wrong:
        return wrong
    if subject.loss_task is None:
        return Finding("ok", f"{shown}: every optimizer goes down its gradient", numbers=numbers, threshold=RULE)
    ratios = found.relative()
    middle = sorted(ratios)[len(ratios) // 2] if ratios else 0.0
    text = f"{shown}: a step changes weights by {middle:.2g} of their first size"
    wrong = (_too_high(subject, text, numbers) if middle > LARGE else None) or _eps(subject, found, numbers)
    wrong = wrong or uneven(subject, shown, numbers) or _too_low(subject, found, answers, shown, numbers)
    if wrong and wrong.level == "warning":
        return wrong
    return whole(subject, found, middle, shown, numbers) or wrong or Finding("ok", text, numbers=numbers, threshold=RULE)


def _too_high(subject: Subject, text: str, numbers: dict[str, Any]) -> Finding | None:
    """The verdict on steps so large that training batch after batch is worse than none, where smaller ones learn."""
    before, after, _ = streamed(subject, as_it_is, TRIED)
    if after <= max(before, 0.0):
        return None
    for less in LESS:
        _, slower, _ = streamed(subject, lambda run, less=less: _faster(run, 1 / less), TRIED)  # type: ignore[misc]
        numbers |= {"new_before": before, "new_after": after, "new_slower": slower, "less": less}
        if slower < before - LEARNS * abs(before):
            text += (
                f"; {TRIED} steps take the loss of new batches from {before:.4g} to {after:.4g}, at 1/{less:g} of the rate to {slower:.4g}"
            )
            cause = "the learning rate is far too high"
            return Finding("warning", text, cause, f"try 1/{less:g} of it, or dlrun check --deep for a range test", numbers, RULE)
    return None


def _eps(subject: Subject, found: Trial, numbers: dict[str, Any]) -> Finding | None:
    """The verdict on an eps that rules the steps: with 1e-8 instead one batch is learned, with it, it is not."""
    groups = [group for optimizer in subject.run.optimizers.values() for group in optimizer.param_groups]
    eps = max((float(group["eps"]) for group in groups if isinstance(group.get("eps"), (int, float))), default=0.0)
    if eps <= 1e-3:
        return None
    steps = 3 * STEPS
    (before, after), (_, usual) = try_anew(subject, as_it_is, steps), try_anew(subject, _usual_eps, steps)
    numbers |= {"eps": eps, "tried_before": before, "tried_after": after, "with_usual_eps": usual}
    if not (before - usual > 0.3 * abs(before) and before - after < 0.25 * (before - usual)):
        return None
    text = f"eps={eps:g}: {steps} steps on one batch take the loss from {before:.4g} to {after:.4g}, with eps=1e-8 to {usual:.4g}"
    return Finding("warning", text, "eps is far larger than the gradients it is added to, and rules the step", "eps=1e-8", numbers, RULE)


def _usual_eps(run: Run) -> None:
    for optimizer in run.optimizers.values():
        for group in optimizer.param_groups:
            if isinstance(group.get("eps"), (int, float)):
                group["eps"] = 1e-8


def _up(answers: list[Pulse], numbers: dict[str, Any]) -> Finding | None:
    """The verdict on a first step that goes up the gradient: no descent does."""
    for answer in answers:
        if answer.rising > 0.02 and answer.rate > 0:
            text = f"the optimizer's first step goes up the gradient: cosine {answer.rising:+.2f}, at most 0 for any descent"
            cause = "a wrong sign in step: weights are added to, not subtracted from, or maximize=True"
            return Finding("error", text, cause, "p -= lr * p.grad, not +=", numbers, "cosine of the first step with the gradient <= 0")
    return None


def _deaf(subject: Subject, answers: list[Pulse], numbers: dict[str, Any]) -> Finding | None:
    """The verdict on an optimizer that does not read the rate of its groups, where a schedule sets it."""
    moving = {one.slot for one in rates(subject) if len({*one.values}) > 1}
    for answer in answers:
        if answer.slot in moving and not answer.rate_acts:
            text = "half the rate in the optimizer's param_groups gives the same step: the schedule has no effect"
            cause = "the optimizer's step uses a learning rate of its own, not group['lr']"
            return Finding("error", text, cause, "read group['lr'] in step", numbers, "half the rate, another step")
    return None


def _too_low(subject: Subject, found: Trial, answers: list[Pulse], shown: str, numbers: dict[str, Any]) -> Finding | None:
    """The verdict on steps that come to nothing in the whole run."""
    run = subject.run
    if subject.expects.get("pretrained") or run.config.get("start") or not math.isfinite(found.before):
        return None
    means = [(one.slot, one.mean) for one in rates(subject)]
    shares = {a.slot: max((mean for slot, mean in means if slot == a.slot), default=a.rate) / a.rate for a in answers if a.rate > 0}
    count = max(run.steps, HORIZON)
    fall = sum(answer.fall * answer.boost * shares.get(answer.slot, 1.0) for answer in answers) * count
    way = max((answer.moved * answer.boost * shares.get(answer.slot, 1.0) for answer in answers), default=0.0) * count
    above = found.before - (subject.floor or 0.0) if subject.floor is not None or found.before > 0 else abs(found.before)
    numbers |= {"fall_of_run": fall, "way_of_run": way, "steps_counted": count}
    if not 0 < way < NOTHING or fall > NOTHING * above or above <= 1e-3 or found.before < KNOWS * chance(subject, found.batch):
        return None
    for times, steps in ((1, STEPS), (1, 3 * STEPS), (10, 3 * STEPS)):
        factor = times * USUAL * count / way
        before, after = try_anew(subject, lambda run, by=factor: _faster(run, by), steps)  # type: ignore[misc]
        numbers |= {"factor": factor, "tried_before": before, "tried_after": after, "tried_steps": steps}
        if before - after > WORKS * above:
            break
    text = (
        f"{shown}: in {count} steps the loss can fall by {fall / above:.2g} of itself at most, and weights move by {way:.2g} of their size"
    )
    if not before - after > WORKS * above:
        return _clipped(subject, text, numbers) or Finding("info", text, numbers=numbers, threshold=RULE)
    text += f"; {factor:.2g} times the rate takes it from {before:.4g} to {after:.4g} in {steps} steps"
    cause, step = _cause(run, factor)
    return Finding("warning", text, cause, step, numbers, RULE)


def _clipped(subject: Subject, text: str, numbers: dict[str, Any]) -> Finding | None:
    """The verdict on steps that come to nothing because of clipping: new batches are learned without it."""
    clip = subject.run.train["clip_norm"]
    if clip is None:
        return None
    before, after, unclipped, done = beside(subject, _unclipped, UNCLIPPED)
    numbers |= {"new_before": before, "new_after": after, "new_unclipped": unclipped, "new_steps": done}
    if not (before - unclipped > LEARNS * abs(before) and before - after < NOTHING * abs(before)):
        return None
    text += f"; {done} steps take the loss of new batches from {before:.4g} to {after:.4g}, without clipping to {unclipped:.4g}"
    return Finding("warning", text, f"train.clip_norm={clip:g} leaves next to nothing of the gradient", "train.clip_norm=1", numbers, RULE)


def _unclipped(run: Run) -> None:
    run.config = {**run.config, "train": {**run.config["train"], "clip_norm": None}}


def _cause(run: Run, factor: float) -> tuple[str, str]:
    """What makes steps so small: clipping, or the rate itself."""
    groups = [group for optimizer in run.optimizers.values() for group in optimizer.param_groups]
    clip = run.train["clip_norm"]
    if clip is not None and clip < 1e-3 and factor > 100:
        return f"train.clip_norm={clip:g} leaves next to nothing of the gradient", "train.clip_norm=1"
    rate = max((float(group["lr"]) for group in groups if isinstance(group.get("lr"), (int, float))), default=0.0)
    return "the learning rate is far too low, or the gradient is scaled down on the way", f"lr={rate * factor:.1g}, or dlrun check --deep"


def _faster(run: Run, factor: float) -> None:
    """Every rate `factor` times as high."""
    for slot, optimizer in run.optimizers.items():
        for group in optimizer.param_groups:
            if isinstance(group.get("lr"), (int, float)):
                group["lr"] *= factor
        scheduler = run.schedulers[slot]
        scheduler._base = [base * factor for base in scheduler._base]
        if hasattr(scheduler.stepped, "base_lrs"):
            scheduler.stepped.base_lrs = [base * factor for base in scheduler.stepped.base_lrs]
