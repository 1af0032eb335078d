"""An optimizer as a black box: what a fresh copy of it does with gradients that are put into its hands.

No forward and no backward is needed: the gradients are those of the first trial step. Asked are things every descent method does, whatever
it is: its first step does not go up the gradient, it follows the rate in its groups, a momentum it declares acts, and is forgotten in time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Subject
from dlrun.checks._trial import Trial, norms, once, trial

PULSE, STEPS = 100.0, 130


@dataclass
class Pulse:
    """Answers of one fresh optimizer at its base rate; None where the question does not apply."""

    slot: str
    rate: float
    rising: float = 0.0
    """Cosine of its first step with the gradient: at most 0 for any descent."""
    moved: float = 0.0
    """Norm of that step over the norm of the weights it may change."""
    fall: float = 0.0
    """First-order fall of the loss by that step."""
    rate_acts: bool = True
    still: list[str] = field(default_factory=list)
    """Parameters that eight steps on unit noise for a gradient, at a rate of 0.001 at least, leave exactly where they were."""
    deaf: list[str] = field(default_factory=list)
    """Parameters that eight steps move, and to the very same place for a gradient as for its opposite."""
    pull: float = 0.0
    """Share by which a step without gradient shrinks the weights."""
    remembers: bool | None = None
    forgets: bool | None = None
    counts: bool | None = None
    """Whether `step` in its state counts its steps."""

    boost: float = 1.0
    """How many steps' worth of a gradient a plain momentum adds up; 1 without."""


@once
def pulses(subject: Subject) -> list[Pulse]:
    """One `Pulse` an optimizer, made once. Raises NoCopy where nothing can be tried."""
    found = trial(subject)
    return [_ask(subject, slot, found) for slot in subject.run.optimizers]


class _Box:
    """A fresh copy of one optimizer with its parameters, at its base rate."""

    def __init__(self, subject: Subject, slot: str, found: Trial) -> None:
        run = subject.copy()
        self.optimizer = run.optimizers[slot]
        self.passes = run.passes
        named = subject.parameters(run)
        held = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        chosen = [(name, slope) for name, slope in zip(found.names, found.gradients, strict=True) if slope is not None]
        self.pairs = [(name, named[name], slope) for name, slope in chosen if name in named and id(named[name]) in held]
        for group in self.optimizer.param_groups:
            if isinstance(group.get("lr"), (int, float)):
                group["lr"] = base_rate(group)
        plain = run.schedulers[slot]
        for group, base in zip(self.optimizer.param_groups, getattr(plain, "_base", []), strict=False):
            group["lr"] = base

    def step(self, factor: float) -> list[Tensor]:
        """Changes made by one step on `factor` times the gradients."""
        old = [p.detach().clone() for _, p, _ in self.pairs]
        for _ in range(self.passes):
            for _, p, slope in self.pairs:
                p.grad = slope * factor
            self.optimizer.step()
        return [p.detach() - before for before, (_, p, _) in zip(old, self.pairs, strict=True)]

    def set(self, key: str, value: Any) -> bool:
        """Set `key` in every group that has a number there; whether any has."""
        groups = [group for group in self.optimizer.param_groups if isinstance(group.get(key), (int, float))]
        for group in groups:
            group[key] = value(group[key]) if callable(value) else value
        return bool(groups)


def base_rate(group: dict[str, Any]) -> float:
    """The rate a group is meant to reach: the highest one, where a torch scheduler names it."""
    return float(group.get("max_lr", group.get("initial_lr", group["lr"])))


def _ask(subject: Subject, slot: str, found: Trial) -> Pulse:
    """All questions to the optimizer of `slot`."""
    box = _Box(subject, slot, found)
    groups = box.optimizer.param_groups
    answer = Pulse(slot, max((float(group["lr"]) for group in groups if isinstance(group.get("lr"), (int, float))), default=math.nan))
    if not box.pairs:
        return answer
    weights = [p.detach().clone() for _, p, _ in box.pairs]
    slopes = [slope for _, _, slope in box.pairs]
    box.set("weight_decay", 0.0)
    one = box.step(1.0)
    answer.still = _unmoved(subject, slot, found)
    answer.deaf = _deaf(subject, slot, found)
    answer.moved, answer.fall = _norm(one) / max(_norm(weights), 1e-12), -_dot(one, slopes)
    answer.rising = -answer.fall / max(_norm(one) * _norm(slopes), 1e-30)
    answer.boost = max(
        (1 / (1 - min(m, 0.999)) for group in groups if 0 < (m := _momentum(group)) < 1 and "betas" not in group), default=1.0
    )
    if not _norm(one) > 0:
        return answer
    answer.rate_acts = _rate_acts(subject, slot, found, one)
    answer.pull = _pull(subject, slot, found, weights)
    if any(0 < _momentum(group) < 1 for group in groups) and box.passes == 1:
        answer.remembers = any(bool(move.any()) for move in box.step(0.0))
    answer.counts = _counts(box.optimizer, 2 if answer.remembers is not None else 1)
    answer.forgets = _forgets(subject, slot, found) if box.passes == 1 else None
    return answer


def _unmoved(subject: Subject, slot: str, found: Trial) -> list[str]:
    """Names of parameters that plain, large gradients do not move."""
    box = _Box(subject, slot, found)
    box.set("weight_decay", 0.0)
    old = [p.detach().clone() for _, p, _ in box.pairs]
    return [name for name, p, before in _pushed(box, 1.0, old) if torch.equal(p, before)]


def _deaf(subject: Subject, slot: str, found: Trial) -> list[str]:
    """Names of parameters that move (by decay) and for which plain, large gradients of either sign are the same."""
    boxes = [_Box(subject, slot, found) for _ in range(2)]
    old = [p.detach().clone() for _, p, _ in boxes[0].pairs]
    up, down = (_pushed(box, sign, old) for box, sign in zip(boxes, (1.0, -1.0), strict=True))
    pairs = [(name, one, other, before) for (name, one, before), (_, other, _) in zip(up, down, strict=True)]
    return [name for name, one, other, before in pairs if torch.equal(one, other) and not torch.equal(one, before)]


def _pushed(box: _Box, factor: float, old: Sequence[Tensor]) -> list[tuple[str, Tensor, Tensor]]:
    """(name, weights after, weights before) of eight steps on `factor` times unit noise for a gradient, at a rate of 0.001 at least."""
    box.set("lr", lambda rate: max(rate, 1e-3))
    generator = torch.Generator().manual_seed(0)
    box.pairs = [(name, p, torch.randn(p.shape, generator=generator).to(p.device, p.dtype)) for name, p, _ in box.pairs]
    for _ in range(8):
        box.step(factor)
    return [(name, p.detach(), before) for (name, p, _), before in zip(box.pairs, old, strict=True)]


def _rate_acts(subject: Subject, slot: str, found: Trial, one: Sequence[Tensor]) -> bool:
    """Whether half the rate in its groups gives another first step; True where groups have no rate."""
    box = _Box(subject, slot, found)
    box.set("weight_decay", 0.0)
    if not box.set("lr", lambda rate: rate / 2):
        return True
    half = box.step(1.0)
    return any(not torch.equal(a, b) for a, b in zip(one, half, strict=True))


def _pull(subject: Subject, slot: str, found: Trial, weights: Sequence[Tensor]) -> float:
    """Share of the weights that a first step without gradient takes away, over the parameters that it shrinks."""
    moves = _Box(subject, slot, found).step(0.0)
    shrunk = [(move, weight) for move, weight in zip(moves, weights, strict=True) if _dot([move], [weight]) < 0]
    return -sum(_dot([m], [w]) for m, w in shrunk) / max(sum(_dot([w], [w]) for _, w in shrunk), 1e-30) if shrunk else 0.0


def _counts(optimizer: Any, steps: int) -> bool | None:
    """Whether a `step` in the optimizer's state has counted; None where there is none."""
    states: Any = getattr(optimizer, "state", None)
    values = [s["step"] for s in states.values() if isinstance(s, dict) and "step" in s] if hasattr(states, "values") else []
    numbers = [float(value) for value in values if isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.numel() == 1)]
    return None if steps < 2 or not numbers else max(numbers) >= steps


def _forgets(subject: Subject, slot: str, found: Trial) -> bool | None:
    """Whether a large gradient of long ago no longer rules the steps: after 130 steps of the opposite they go the other way.

    A sum without decay still holds 100 - 130 x 0.5 of it. The weights are put back each time: only the memory counts.
    """
    box = _Box(subject, slot, found)
    box.set("weight_decay", 0.0)
    weights = [p.detach().clone() for _, p, _ in box.pairs]
    slopes = [slope for _, _, slope in box.pairs]
    last: list[Tensor] = []
    if sum(w.numel() for w in weights) > 3_000_000:
        return None
    for number in range(STEPS):
        last = box.step(PULSE if number == 0 else -0.5)
        for (_, p, _), weight in zip(box.pairs, weights, strict=True):
            p.data.copy_(weight)
    turned = _dot(last, slopes)
    return None if turned == 0 or not math.isfinite(turned) else turned > 0


def _momentum(group: dict[str, Any]) -> float:
    """The share of old gradients that a group says it keeps."""
    betas = group.get("betas")
    first = betas[0] if isinstance(betas, (tuple, list)) and betas else group.get("momentum", 0.0)
    return float(first) if isinstance(first, (int, float)) else 0.0


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(value * value for value in norms(list(tensors))))


def _dot(ones: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    return sum(float((a.double() * b.double()).sum()) for a, b in zip(ones, others, strict=True))
