"""Overfit one batch: a network that cannot learn 32 rows by heart cannot learn the data. A wiring test, no proof of anything else."""

from __future__ import annotations

import copy
from dataclasses import replace

from torch import nn

from dlrun.batch import Batch
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks.mode_switch import DROPOUTS
from dlrun.finite import NonFinite
from dlrun.loop import prepare
from dlrun.run import Run
from dlrun.schedule import Scheduler

ROWS, STEPS, SHARE, ABSOLUTE = 32, 300, 0.05, 0.15
RATES = (1.0, 3.0, 0.3)


@check(stage="learning", moment="check", recipe="Hacker's Guide: one datapoint, then a few, then all; Karpathy: overfit one batch")
def overfit_batch(subject: Subject) -> Finding:
    """Up to 300 steps on 32 fixed rows with the real optimizer, dropout off, at its base rate; at 3 and 0.3 times that if it fails."""
    if subject.loss_task is None:
        return skipped("players that oppose each other have no loss to drive down")
    if subject.expects.get("loss_may_rise"):
        return skipped("declared by expects.loss_may_rise")
    raw, tried = subject.raw[:ROWS], []
    floor = subject.run.task.loss_floor(subject.run.data.spec)
    for factor in RATES:
        before, after, steps, reached = attempt(subject, raw, factor, floor)
        tried.append({"rate": factor, "before": before, "after": after, "steps": steps})
        if reached:
            break
    text = f"one batch of {len(raw)} rows: loss {before:.4f} -> {after:.4f} in {steps} steps"
    numbers = {"tries": tried, "before": before, "after": after, "steps": steps, "floor": floor}
    rule = f"loss <= floor + {SHARE:.0%} of (first loss - floor)" if floor is not None else "loss falls by 30 %"
    if reached:
        note = "" if factor == 1 else f" (at {factor:g} times the learning rate)"
        return Finding("ok" if factor == 1 else "info", f"overfitted {text}{note}", numbers=numbers, threshold=rule)
    best = min(tried, key=lambda entry: entry["after"])
    text = f"one batch of {len(raw)} rows was not overfitted: loss {best['before']:.4f} -> {best['after']:.4f} in {best['steps']} steps"
    return Finding(
        "error",
        text,
        "targets that do not belong to the inputs, a broken path, or too little capacity",
        "try one single row",
        numbers,
        rule,
    )


def attempt(subject: Subject, raw: Batch, factor: float, floor: float | None) -> tuple[float, float, int, bool]:
    """First loss, last loss, steps, and whether the goal was reached, at `factor` times the learning rate."""
    run = replace(subject.copy(), steps=STEPS)
    without_noise(run, factor)
    prepared = prepare(run, 0, 0, raw)
    before = after = subject.batch_loss(run, prepared)
    goal = floor + SHARE * (before - floor) if floor is not None else before - 0.3 * abs(before)
    done = 0
    try:
        for done in subject.fit(run, raw, STEPS):
            if done % 5 == 0 or done == STEPS:
                after = subject.batch_loss(run, prepared)
                if after <= goal:
                    return before, after, done, floor is None or after - floor <= max(ABSOLUTE, SHARE * (before - floor))
    except NonFinite:
        return before, float("inf"), done, False
    return before, after, done, False


def without_noise(run: Run, factor: float) -> None:
    """Dropout off, schedules constant at `factor` times the base rate."""
    for module in run.modules.values():
        module.train()
        for part in module.modules():
            if isinstance(part, DROPOUTS):
                part.p = 0.0
            if isinstance(part, (nn.RNNBase, nn.MultiheadAttention)):
                part.dropout = 0.0
    for name, optimizer in run.optimizers.items():
        for group in optimizer.param_groups:
            if "lr" in group:
                group["lr"] = copy.copy(group.get("initial_lr", group["lr"])) * factor
        run.schedulers[name] = Scheduler(optimizer, STEPS, multiplier=lambda step, steps: 1.0)
