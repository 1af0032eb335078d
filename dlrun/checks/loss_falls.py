"""Twenty steps on one fixed batch with the real optimizer must lower its loss: wrong signs and far too large steps show here."""

from __future__ import annotations

import time

from dlrun.checks._frame import Finding, Subject, check, skipped

STEPS, LEAST, SECONDS = 20, 3, 0.5


@check(stage="update", moment="fast", recipe="Hacker's Guide: one datapoint, then a few, then all")
def loss_falls(subject: Subject) -> Finding:
    """Loss on the first batch before and after at most 20 steps (0.5 s, but 3 at least), under the same noise."""
    if subject.loss_task is None:
        return skipped("players that oppose each other need not lower each other's loss")
    if subject.expects.get("loss_may_rise"):
        return skipped("declared by expects.loss_may_rise")
    if subject.run.steps == 0:
        return skipped("train.steps is 0")
    run = subject.copy()
    before = subject.batch_loss(run, subject.batch)
    deadline, done = time.perf_counter() + SECONDS, 0
    for module in run.modules.values():
        module.train()
    for done in subject.fit(run, subject.raw, STEPS):
        if done >= LEAST and time.perf_counter() > deadline:
            break
    after = subject.batch_loss(run, subject.batch)
    numbers, rule = {"before": before, "after": after, "steps": done}, "the loss after is below the loss before"
    text = f"loss on one batch {before:.4f} -> {after:.4f} in {done} steps"
    if after < before:
        return Finding("ok", text, numbers=numbers, threshold=rule)
    if after == before:
        return Finding(
            "error",
            f"{text}: nothing moved",
            "no gradient reaches the weights, or the rate is 0",
            "look at lr and requires_grad",
            numbers,
            rule,
        )
    return Finding(
        "error",
        text,
        "the steps are far too large, or go uphill",
        "try a tenth of the learning rate; look at the loss's sign",
        numbers,
        rule,
    )
