"""The training as it is beside one whose weights do not decay: what is learned of rows of val and of train, with decay and without.

Decay that helps lets the training's own rows be learned less well and those of val better. Decay that is far too strong for its rate holds
the weights where it pulls as hard as the gradient does, and neither is learned: most often L2 in the gradient of Adam, where the weight
that AdamW takes is a hundred times too much (Loshchilov, Hutter 2019, "Decoupled Weight Decay Regularization", section 2).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from dlrun.checks._frame import Subject
from dlrun.checks._trial import Watched
from dlrun.finite import NonFinite, Watch
from dlrun.loop import train_step
from dlrun.run import Run
from dlrun.steplog import StepLog

ROWS, STEPS, EACH, SECONDS, LEAST = 256, 300, 25, 2.0, 30
FEW, LONGEST = 3, 5.0
"""After so many steps a training is given up of which the least that says something would take longer, in seconds."""
LEARNS, LOST = 0.15, 0.6
HEAVY, WORSE, FLAT, REST, TWICE = 0.05, 1.12, 0.02, 0.1, 2.0


@dataclass
class Course:
    """Losses of rows of train and of val before training and after every 25 steps, in eval mode; `steps` were done."""

    train: list[float] = field(default_factory=list)
    val: list[float] = field(default_factory=list)
    steps: int = 0


def course(subject: Subject, change: Callable[[Run], None], most: int = STEPS) -> Course | None:
    """Train a copy that `change` has changed on the training's own batches; None where it broke, or where steps take too long."""
    run, found, begun = subject.copy(), Course(), time.thread_time()
    change(run)
    splits = ("train", "val" if "val" in run.data.rows else "train")
    batches = [subject.prepared(run, subject.rows(split, ROWS).batch) for split in splits]

    def look() -> bool:
        for kept, batch in zip((found.train, found.val), batches, strict=True):
            kept.append(subject.batch_loss(run, batch, training=False))
        for module in run.modules.values():
            module.train()
        return math.isfinite(found.train[-1] + found.val[-1])

    log, watch, most = StepLog(), Watch(run.device), min(most, run.steps)
    try:
        fine = look()
        looked = time.thread_time() - begun
        while fine and found.steps < most:
            log.begin(False)
            train_step(run, found.steps, run.data.batches(found.steps), log, watch)
            found.steps += 1
            if found.steps == FEW and 3 * looked + (time.thread_time() - begun - looked) * LEAST / FEW > LONGEST:
                return None
            late = found.steps >= LEAST and time.thread_time() - begun > SECONDS
            if found.steps % EACH == 0 or found.steps == most or late:
                fine = look()
            if late:
                break
    except NonFinite:
        return None
    return found if fine else None


def starved(there: Course, without: Course, heavy: bool) -> bool:
    """Whether decay keeps the network from learning: far less of train and val is learned with it.

    Otherwise the losses have come to rest at more than twice those without decay, or `heavy` L2 in an adaptive step holds them above those.
    """
    pairs = [(there.train, without.train), (there.val, without.val)]
    if not all(b[0] - b[-1] > LEARNS * abs(b[0]) for _, b in pairs):
        return False
    if all(a[0] - a[-1] < LOST * (b[0] - b[-1]) for a, b in pairs):
        return True
    fell = [(a[len(a) // 2] - a[-1]) / abs(a[0]) if len(a) > 4 else math.inf for a, _ in pairs]
    if max(fell) < REST and all(a[-1] > TWICE * b[-1] and a[-1] - b[-1] > LEARNS * abs(a[0]) for a, b in pairs):
        return True
    better = all(b[-1] < b[len(b) // 2] and a[-1] > WORSE * b[-1] > 0 for a, b in pairs)
    return heavy and better and max(fell) < FLAT


def undone(subject: Subject) -> Callable[[Run], None] | None:
    """A change after which steps do not shrink the weights, where each takes a share of every tensor by itself; else None."""
    run = subject.copy()
    known = {id(p): name for name, p in subject.parameters(run).items()}
    shares: dict[str, float] = {}
    for optimizer in run.optimizers.values():
        held = [p for group in optimizer.param_groups for p in group["params"] if id(p) in known]
        old = [p.detach().clone() for p in held]
        for p in held:
            p.grad = torch.zeros_like(p)
        optimizer.step()
        for p, before in zip(held, old, strict=True):
            share = 1 - float((p.detach() * before).sum() / before.square().sum().clamp(min=1e-30)) if bool(before.any()) else 0.0
            if not 0 <= share < 0.9 or float((p.detach() - (1 - share) * before).norm()) > 0.02 * share * float(before.norm()) + 1e-6:
                return None
            shares[known[id(p)]] = share
    return lambda run: _enlarged_first(subject, run, shares)


def _enlarged_first(subject: Subject, run: Run, shares: dict[str, float]) -> None:
    """Weights enlarged before each step by what it will take from them."""
    named = subject.parameters(run)

    def before() -> None:
        with torch.no_grad():
            for name, share in shares.items():
                named[name].div_(1 - share)

    slot = next(iter(run.optimizers))
    run.optimizers[slot] = Watched(run.optimizers[slot], before, lambda: None)
