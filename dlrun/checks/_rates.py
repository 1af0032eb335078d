"""The learning rates that a run's schedules will set, step by step, found on copies."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from dlrun.checks._frame import Subject
from dlrun.checks._trial import STEPS, once
from dlrun.run import Run

MANY = 4000


@dataclass
class Rates:
    """Rates of one group of one optimizer at `steps` (all of the run's, or some evenly spread); `error` where the schedule raised."""

    slot: str
    steps: list[int]
    values: list[float]
    base: float
    multiplied: bool
    """Whether the schedule is a multiplier of the base rate (else a torch scheduler, which sets rates itself)."""
    error: str = ""
    failed_at: int = -1
    whole: bool = True

    @property
    def peak(self) -> float:
        """The highest rate."""
        return max(self.values, default=0.0)

    @property
    def mean(self) -> float:
        """The mean rate."""
        return sum(self.values) / max(len(self.values), 1)


@once
def rates(subject: Subject) -> list[Rates]:
    """The rates of every group that has one, groups with the same rates once."""
    run = subject.copy()
    found: list[Rates] = []
    for slot in run.schedulers:
        known: list[list[float]] = []
        for one in _of_slot(run, slot, max(subject.patience / 3, 0.1)):
            if one.values not in known:
                known.append(one.values)
                found.append(one)
    return found


def _of_slot(run: Run, slot: str, seconds: float) -> list[Rates]:
    scheduler, optimizer = run.schedulers[slot], run.optimizers[slot]
    groups = [group for group in optimizer.param_groups if isinstance(group.get("lr"), (int, float)) or hasattr(group.get("lr"), "item")]
    multiplied, total = scheduler.multiplier is not None, run.steps
    steps: Sequence[int] = range(total)
    if multiplied and total > MANY:
        steps = sorted({*range(0, total, -(-total // MANY)), *range(min(total, 100)), total - 1})
    bases = [float(group["lr"]) for group in groups] if multiplied else [float(g.get("initial_lr", g["lr"])) for g in groups]
    made = [Rates(slot, [], [], base, multiplied) for base in bases]
    deadline = time.perf_counter() + seconds
    for number, step in enumerate(steps):
        try:
            scheduler.set(step)
            now = [float(group["lr"]) for group in groups]
            if step + 1 < total:  # what the training would ask for, but for the advance after its last step
                scheduler.advance()
        except Exception as error:  # whatever a user's schedule raises
            for one in made:
                one.error, one.failed_at = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}", step + 1
            break
        for one, rate in zip(made, now, strict=True):
            one.steps.append(step)
            one.values.append(rate)
        if number % 64 == 0 and time.perf_counter() > deadline and number + 1 < len(steps):
            for one in made:
                one.whole = False
            break
    return made


def idle(subject: Subject) -> str:
    """Why no trial step can be taken; empty where some can."""
    if subject.run.steps == 0:
        return "train.steps is 0"
    if not subject.run.optimizers:
        return "no parameter is trainable"
    broken = any(one.error and one.failed_at <= STEPS for one in rates(subject))
    return "the schedule raises: see schedule_preview" if broken else ""


def sketch(values: Sequence[float], width: int = 32) -> str:
    """Rates over the run as a line of blocks, the highest one full; a value that is below 0 or no number as `!`."""
    if not values:
        return ""
    blocks, top = " ▁▂▃▄▅▆▇█", max((v for v in values if math.isfinite(v)), default=0.0)
    count = min(width, len(values))
    picked = [values[round(i * (len(values) - 1) / max(count - 1, 1))] for i in range(count)]
    return "".join("!" if not math.isfinite(v) or v < 0 else blocks[math.ceil(8 * v / top)] if top > 0 else " " for v in picked)
