"""What every descent does with gradients that are made up for it: an optimizer written by hand, or one that was changed a little.

Asked is the user's optimizer itself, on copies of the parameters it holds (`_drill.py`), since a loss that falls proves little: with the
root of RMSprop forgotten, a trust ratio upside down or a state that all parameters share it falls as well, only not far.
Source: Kingma, Ba 2015, "Adam", section 2.1 (what a sound step does to scale and sign); You et al. 2017, section 4, equation 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations, pairwise
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._drill import Drill, Held, cosine, drills, rough, total
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._pulse import pulses
from dlrun.checks._rates import idle

CONSTANT = (1, 10, 30)
"""Ends of the stretches of a walk under one gradient, each of which goes down."""
UP, ASIDE, LARGE = 0.05, 0.02, 2500
SQUARE, INVERSE = 1.5, -0.5
HALF = (0.3, 0.8)
ODD, ALIKE, TOGETHER, DECAY, ALONG = 0.5, 0.05, 0.8, 0.1, 0.9
RULE = (
    "under a constant gradient each stretch of 30 steps goes down; 10 times the gradient makes a step of 0.3 to 30 times the size; "
    "the opposite gradient the opposite step; half the rate half the step; equal parameters move alike; decay shrinks"
)
Verdict = tuple[str, str, str, str]


@check(
    stage="update",
    moment="check",
    recipe="try an optimizer on a problem whose answer is known before you trust it with a network",
    follows=("optimizer_owns", "frozen_report", "update_size", "lr_sanity"),
)
def optimizer_drill(subject: Subject) -> Finding:
    """Every optimizer's answers, the first that no descent would give."""
    reason = idle(subject)
    if reason:
        return skipped(reason)
    numbers: dict[str, Any] = {}
    asked, lost = [], []
    for drill in drills(subject):
        if drill.lost:
            lost.append(f"{drill.slot}: {drill.lost}")
            continue
        plain = not rough(drill)
        wrong = _judge(drill, plain, numbers) or _memory(subject, drill.slot, plain)
        if wrong:
            level, text, cause, step = wrong
            text = f"{drill.slot}: {text}" if len(subject.run.optimizers) > 1 else text
            return Finding(level, text, cause, step, numbers, RULE)
        asked.append(drill)
    if not asked:
        return skipped("; ".join(lost))
    count = sum(len(drill.held) for drill in asked)
    return Finding("ok", f"{count} parameters go down made-up gradients as a descent does", numbers=numbers, threshold=RULE)


def _memory(subject: Subject, slot: str, plain: bool) -> Verdict | None:
    """The verdict on a memory that is none, or never fades: the loss of twenty steps may fall all the same."""
    for answer in pulses(subject):
        cause, step = "the optimizer's state is made anew in every step", "keep it between steps"
        if answer.slot != slot:
            continue
        if answer.remembers is False:
            return "warning", "the momentum does nothing: a step after a gradient, without one, moves no weight", cause, step
        if answer.counts is False:
            return "warning", "the step counter in the optimizer's state does not count", cause, step
        if answer.forgets is False and plain:
            text = "the optimizer never forgets: after 130 steps of the opposite gradient it still follows the first"
            cause = "gradients are added up without decay, or the two betas are swapped"
            return "warning", text, cause, "momentum < 1, betas=(0.9, 0.999), or clear the sum"
    return None


def _judge(drill: Drill, plain: bool, numbers: dict[str, Any]) -> Verdict | None:
    """The first wrong answer of an optimizer."""
    wrong = _decay(drill, numbers) or _grows(drill, numbers)
    if wrong or not plain:
        return wrong
    questions: tuple[Callable[[Drill, dict[str, Any]], Verdict | None], ...] = (_down, _opposite, _twins, _others, _scale, _rate)
    return next((found for found in (question(drill, numbers) for question in questions) if found), None)


def _down(drill: Drill, numbers: dict[str, Any]) -> Verdict | None:
    """Under a gradient that stays the same, parameters go down in every stretch of the walk."""
    slopes = drill.noise()
    walked = drill.walk(lambda step: slopes, CONSTANT[-1])
    places = [[torch.zeros_like(move) for move in walked[0]], *[walked[end - 1] for end in CONSTANT]]
    for (begin, end), (old, new) in zip(pairwise((0, *CONSTANT)), pairwise(places), strict=True):
        moves = [b - a for a, b in zip(old, new, strict=True)]
        largest = max((float(move.norm()) / math.sqrt(move.numel()) for move in moves), default=0.0)
        for held, move, slope in zip(drill.held, moves, slopes, strict=True):
            if not bool(move.isfinite().all()) or float(move.norm()) / math.sqrt(move.numel()) < 0.01 * largest:
                continue
            angle = cosine(move, slope)
            numbers["angle"] = angle
            if angle > UP:
                text = f"under a gradient that stays the same, steps {begin + 1} to {end} move {held.name} up it: cosine {angle:+.2f}"
                cause = "a wrong sign in step, or a bias correction that turns negative (1 - beta * t in place of 1 - beta ** t)"
                return "error", text, cause, "p -= lr * m_hat / (v_hat.sqrt() + eps), m_hat = m / (1 - beta1 ** t)"
            if abs(angle) < ASIDE and move.numel() >= LARGE:
                text = f"steps {begin + 1} to {end} move {held.name} in a direction that has nothing to do with its gradient"
                text += f": cosine {angle:+.3f}, a descent has -1 or somewhat more"
                cause = "the step uses another parameter's gradient or state, or the square of the gradient in place of the gradient"
                return "error", text, cause, "look at what step pairs with each p, and at its numerator"
    return None


def _opposite(drill: Drill, numbers: dict[str, Any]) -> Verdict | None:
    """The opposite gradients make the opposite step."""
    slopes = drill.noise()
    one, other = (drill.walk(lambda step, sign=sign: [sign * s for s in slopes], 1)[0] for sign in (1.0, -1.0))  # type: ignore[misc]
    even, odd = total([a + b for a, b in zip(one, other, strict=True)]), total([a - b for a, b in zip(one, other, strict=True)])
    numbers["even"] = share = even / max(odd, 1e-300)
    if share < ODD:
        return None
    much = "the very same step" if share > 1e3 else f"a step that shares {min(share, 1.0):.0%} of its way"
    text = f"the opposite gradient does not make the opposite step but {much}"
    cause = "the step takes the size of a gradient without its sign (abs, square), or cuts negative ones away (clamp(min=0), relu)"
    return "error", text, cause, "clip with clamp(-c, c) or by the norm; the numerator of a step is the gradient itself"


def _twins(drill: Drill, numbers: dict[str, Any]) -> Verdict | None:
    """Two parameters of a group with equal weights and gradients take equal steps."""
    pair = next(((a, b) for a, b in combinations(drill.held, 2) if a.shape == b.shape and a.group == b.group), None)
    if pair is None:
        return None
    first, second = (drill.held.index(held) for held in pair)
    slopes = drill.noise()
    slopes[second] = slopes[first]

    def equal(made: Any) -> None:
        one, two = (made.param_groups[held.group]["params"][held.place] for held in pair)
        two.data.copy_(one.data)

    moves = drill.walk(lambda step: slopes, 3, equal)[-1]
    apart = float((moves[first] - moves[second]).norm() / moves[first].norm().clamp(min=1e-300))
    numbers["twins"] = apart
    if apart < ALIKE:
        return None
    text = f"{pair[0].name} and {pair[1].name}, made equal and given equal gradients, move apart: by {apart:.0%} of the way in 3 steps"
    cause = "something is shared by all parameters that each should have for itself: a step counter, a momentum, a mean of squares"
    return "error", text, cause, "keep m, v and t in self.state[p], one for each parameter; count t once a step"


def _others(drill: Drill, numbers: dict[str, Any]) -> Verdict | None:
    """The direction of a parameter's third step does not hang on other parameters' gradients, their signs or sizes."""
    shapes = [held.shape for held in drill.held]
    mine = next((n for n, shape in enumerate(shapes) if shapes.count(shape) > 1 and shape.numel() > 1), None)
    if mine is None:
        return None
    walks = []
    for factor in (1.0, -1.0, 30.0):
        given = [[slope if n == mine else factor * slope for n, slope in enumerate(drill.noise(step))] for step in range(3)]
        walked = drill.walk(lambda step, given=given: given[step], 3)  # type: ignore[misc]
        walks.append(walked[2][mine] - walked[1][mine])
    if not all(bool(walk.any()) for walk in walks):
        return None
    angles = [cosine(walks[0], walk) for walk in walks[1:]]
    numbers["others"] = angles
    if min(angles) > TOGETHER:
        return None
    how = "change sign" if angles[0] < TOGETHER else "grow"
    text = f"{drill.held[mine].name} steps another way when only the gradients of other parameters {how}: cosine {min(angles):.2f}"
    cause = "parameters share a momentum or a mean of squares"
    return "error", text, cause, "keep the state in self.state[p], one for each parameter"


def _scale(drill: Drill, numbers: dict[str, Any]) -> Verdict | None:
    """A larger gradient makes no step that is far smaller, nor one that grows with its square."""
    even = [slope.sign() * held.size for slope, held in zip(drill.noise(), drill.held, strict=True)]
    sizes = []
    for factor in (0.1, 1.0, 10.0, 100.0):
        made = drill.walk(lambda step, factor=factor: [factor * slope for slope in even], 5)[-1]  # type: ignore[misc]
        sizes.append([float(move.norm()) for move in made])
    rows = [(held, [math.log10(max(b, 1e-300) / max(a, 1e-300)) for a, b in pairwise(by)]) for held, *by in zip(drill.held, *sizes)]
    rows = [(held, powers) for held, powers in rows if all(abs(power) < 10 for power in powers)]
    numbers["powers"] = {held.name: [round(power, 2) for power in powers] for held, powers in rows}
    for wrong, text, cause in (
        (_all(rows, lambda power: power > SQUARE), "grows with more than the gradient itself", "a factor of the gradient too many"),
        (_all(rows, lambda power: power < INVERSE), "shrinks where the gradient grows", "a root that is missing in the divisor"),
    ):
        if not wrong or 2 * sum(held.shape.numel() for held, _ in wrong) < sum(held.shape.numel() for held, _ in rows):
            continue
        held, powers = wrong[0]
        times = 10 ** powers[1]
        text = f"the step of {held.name} {text}: 10 times the gradient makes a step of {times:.2g} times the size"
        cause += ", or a quotient of norms that is upside down"
        step = "1 (SGD) to 10 times down to the same size (Adam, sign, LARS) is sound: g / (v.sqrt() + eps); trust = |w| / |g|"
        return "warning", text, cause, step
    return None


def _all(rows: list[tuple[Held, list[float]]], wrong: Callable[[float], bool]) -> list[tuple[Held, list[float]]]:
    """Rows of which two neighbouring powers are wrong."""
    return [(held, powers) for held, powers in rows if any(wrong(a) and wrong(b) for a, b in pairwise(powers))]


def _rate(drill: Drill, numbers: dict[str, Any]) -> Verdict | None:
    """Half the rate makes half the step; a rate that is not read at all is `lr_sanity`'s."""

    def halved(made: Any) -> None:
        for group in made.param_groups:
            if isinstance(group.get("lr"), (int, float)):
                group["lr"] /= 2

    for factor in (1.0, 1e2, 1e4):
        slopes = [factor * slope for slope in drill.noise()]
        whole = drill.walk(lambda step, g=slopes: g, 1)[0]  # type: ignore[misc]
        if _clear(drill, whole):
            break
    else:
        return None
    half = drill.walk(lambda step: slopes, 1, halved)[0]
    numbers["half"] = ratio = total(half) / total(whole)
    if HALF[0] < ratio < HALF[1] or 0.95 < ratio < 1.05:
        return None
    text = f"half the learning rate makes a step of {ratio:.2g} times the size, not half of it"
    cause = "the rate enters the step twice, or as a divisor" if ratio < HALF[0] or ratio > 1 else "the rate enters the step as a root"
    return "warning", text, cause, "multiply by group['lr'] once, where the weights are changed"


def _clear(drill: Drill, moves: list[Tensor]) -> bool:
    """Whether steps are far above the rounding of the weights."""
    groups = drill.run.optimizers[drill.slot].param_groups
    weights = [groups[held.group]["params"][held.place].detach() for held in drill.held]
    return total(moves) > 1e-4 * total(weights)


def _decay(drill: Drill, numbers: dict[str, Any]) -> Verdict | None:
    """Decay that its groups declare shrinks weights."""
    groups = drill.run.optimizers[drill.slot].param_groups
    said = [n for n, group in enumerate(groups) if isinstance(group.get("weight_decay"), (int, float)) and group["weight_decay"] > 0]
    for number in said:

        def decays(made: Any, number: int = number) -> None:
            made.param_groups[number]["weight_decay"] = DECAY

        held = [n for n, one in enumerate(drill.held) if one.group == number and len(one.shape) > 1]
        weights = [groups[number]["params"][drill.held[n].place].detach().double().cpu() for n in held]
        small = [1e-3 * slope for slope in drill.noise()]
        without, there = drill.walk(lambda step, g=small: g, 1)[0], drill.walk(lambda step, g=small: g, 1, decays)[0]  # type: ignore[misc]
        pulls = [there[n] - without[n] for n in held]
        if not held or not total(weights):
            continue
        grows = sum(float((pull * weight).sum()) for pull, weight in zip(pulls, weights, strict=True))
        numbers["decay"] = grows / total(weights) ** 2
        if grows > 0.1 * total(pulls) * total(weights) > 0:
            text = f"weight decay of group {number} makes weights larger: by {numbers['decay']:.2g} of their size in a step at {DECAY:g}"
            return "error", text, "a wrong sign before weight_decay", "grad + weight_decay * p, or p *= 1 - lr * weight_decay"
    return None


def _grows(drill: Drill, numbers: dict[str, Any]) -> Verdict | None:
    """Without a gradient no weights grow, step after step (a step may once lift them to a norm that they then keep)."""
    groups = drill.run.optimizers[drill.slot].param_groups
    zeros = [torch.zeros(held.shape) for held in drill.held]
    walked = drill.walk(lambda step: zeros, 3)
    weights = [groups[held.group]["params"][held.place].detach().double().cpu() for held in drill.held]
    last = [b - a for a, b in zip(walked[1], walked[2], strict=True)]
    size, along = total(last), sum(float((move * weight).sum()) for move, weight in zip(last, weights, strict=True))
    if not size > 1e-7 * total(weights) > 0 or along < ALONG * size * total(weights):
        return None
    numbers["grows"] = size / total(weights)
    text = f"without any gradient a step makes the weights larger: by {numbers['grows']:.2g} of their size, step after step"
    return "error", text, "weight decay of the wrong sign", "p *= 1 - lr * weight_decay"
