"""Where the time of a step goes: reading the batch, or training on it. A note only, and rough: other work on the machine shows in it."""

from __future__ import annotations

import time

import torch

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._rates import idle
from dlrun.finite import NonFinite, Watch
from dlrun.loop import train_step
from dlrun.steplog import StepLog

STEPS, SECONDS, SHARE = 20, 0.4, 0.3
RULE = f"info where reading takes > {SHARE:.0%} of a step"


@check(stage="learning", moment="check", recipe="measure before you optimise")
def throughput(subject: Subject) -> Finding:
    """Up to 20 whole steps (0.4 s): seconds for their batches and for the steps themselves, medians."""
    reason = idle(subject)
    if reason:
        return skipped(reason)
    run, reads, steps = subject.copy(), [], []
    log, watch, begun = StepLog(), Watch(subject.run.device), time.perf_counter()
    for module in run.modules.values():
        module.train()
    try:
        for step in range(min(STEPS, run.steps)):
            log.begin(False)
            start = time.perf_counter()
            batches = run.data.batches(step)
            read = time.perf_counter()
            train_step(run, step, batches, log, watch)
            if run.device.type == "cuda":
                torch.cuda.synchronize()
            reads.append(read - start)
            steps.append(time.perf_counter() - read)
            if len(steps) >= 3 and time.perf_counter() - begun > SECONDS:
                break
    except NonFinite as error:
        return skipped(f"{error}: see step_lowers_loss")
    reading, training = sorted(reads)[len(reads) // 2], sorted(steps)[len(steps) // 2]
    share = reading / max(reading + training, 1e-9)
    numbers = {"reading_ms": 1e3 * reading, "training_ms": 1e3 * training, "steps": len(steps)}
    text = f"a step takes {1e3 * (reading + training):.1f} ms, {share:.0%} of it to read the batch; {run.steps} steps about "
    text += f"{run.steps * (reading + training):.0f} s, without evaluation"
    if share > SHARE and reading > 1e-3:
        text += "; train.workers=2 reads ahead" if run.data.workers == 0 and not getattr(run.data.raw("train"), "in_memory", False) else ""
        return Finding("info", f"{text}: the data are slow", numbers=numbers, threshold=RULE)
    return Finding("ok", text, numbers=numbers, threshold=RULE)
