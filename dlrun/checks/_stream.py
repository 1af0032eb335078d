"""Short trainings on new batches, one beside another that differs in one thing only: what would come of that thing?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from dlrun.checks._frame import Subject
from dlrun.finite import NonFinite, Watch
from dlrun.loop import train_step
from dlrun.run import Run
from dlrun.schedule import Scheduler
from dlrun.steplog import StepLog

SECONDS, LEAST = 1.5, 20


def streamed(
    subject: Subject, change: Callable[[Run], None], steps: int, seconds: float = math.inf, most: int | None = None
) -> tuple[float, float, int]:
    """Loss of the four batches after the first `steps`, before and after training on those, and how many steps it were.

    `change` is made to the copy first. It stops after `most` steps, and after `seconds` of work and 20 steps.
    """
    run = subject.copy()
    change(run)
    fresh = [subject.prepared(run, raw) for step in range(steps, steps + 4) for raw in run.data.batches(step)[:1]]

    def loss() -> float:
        return sum(subject.batch_loss(run, batch, training=False) for batch in fresh) / len(fresh)

    before, log, watch, done, begun = loss(), StepLog(), Watch(run.device), 0, time.thread_time()
    for module in run.modules.values():
        module.train()
    try:
        for step in range(min(steps, run.steps, most or steps)):
            log.begin(False)
            train_step(run, step, run.data.batches(step), log, watch)
            done += 1
            if done >= LEAST and time.thread_time() - begun > seconds:
                break
        after = loss()
    except NonFinite:
        return before, math.inf, done
    return before, after if math.isfinite(after) else math.inf, done


def beside(subject: Subject, change: Callable[[Run], None], steps: int) -> tuple[float, float, float, int]:
    """(loss before, after training as it is, after training a copy with `change`, steps): the same steps on the same batches.

    With `change` the loss before may be another one: only the loss after is given. At most some 3 s of work.
    """
    before, after, done = streamed(subject, as_it_is, steps, SECONDS)
    _, changed, _ = streamed(subject, change, steps, most=done)
    return before, after, changed, done


def as_it_is(run: Run) -> None:
    """No change."""


def at_base_rate(run: Run) -> None:
    """Every schedule constant at the base rate of its optimizer."""
    for name, optimizer in run.optimizers.items():
        bases = run.schedulers[name]._base or [group.get("initial_lr", group.get("lr")) for group in optimizer.param_groups]
        for group, base in zip(optimizer.param_groups, bases, strict=True):
            if base is not None:
                group["lr"] = base
        run.schedulers[name] = Scheduler(optimizer, run.steps, multiplier=_constant)


def _constant(step: int, steps: int) -> float:
    return 1.0
