"""What a short training on some rows says of rows it has not seen.

The loss of unseen rows is held against the losses of the same outputs on targets that were shuffled among these rows: a test that needs no
metric and works for every loss with targets, over-confident or not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.checks._frame import Subject
from dlrun.checks.overfit_1_batch_few import peaks, without_noise
from dlrun.finite import NonFinite, Watch
from dlrun.loop import train_step
from dlrun.run import Run
from dlrun.steplog import StepLog

STEPS, BATCH, SHUFFLES = 150, 32, 30


@dataclass
class Score:
    """How the true targets of unseen rows fare: `z` is how many standard deviations their loss lies below that of shuffled ones."""

    loss: float
    shuffled: float
    deviation: float
    rows: int

    @property
    def z(self) -> float:
        """Above 0: better than shuffled."""
        return (self.shuffled - self.loss) / max(self.deviation, 1e-9 * max(abs(self.shuffled), 1e-9))


def why_not(subject: Subject) -> str:
    """Why the question makes no sense here; empty where it does."""
    if subject.loss_task is None:
        return "a task of several objectives has no targets to shuffle"
    if subject.run.task.couples_rows or subject.kind in ("contrastive", "vae", "diffusion", "gan"):
        return f"kind {subject.kind} has no targets of its own"
    if not subject.run.optimizers or subject.run.steps == 0:
        return "nothing is trained"
    if "val" not in subject.run.data.rows:
        return "there is no val split"
    if not isinstance(subject.raw.get("y"), Tensor):
        return "there are no targets in one tensor"
    return "the targets are spread over a graph" if subject.kind == "graph" else ""


def trained(subject: Subject, rows: Batch, steps: int = STEPS) -> Run | None:
    """A copy trained on random batches of `rows` at the schedule's highest rate, without dropout; None where it broke."""
    run = replace(subject.copy(), steps=steps)
    without_noise(run, 1.0, peaks(subject))
    log, watch, generator = StepLog(), Watch(run.device), torch.Generator().manual_seed(0)
    for module in run.modules.values():
        module.train()
    try:
        for step in range(steps):
            picked = torch.randint(len(rows), (min(BATCH, len(rows)),), generator=generator)
            log.begin(False)
            train_step(run, step, [rows.map(lambda t, at=picked: t[at.to(t.device)])], log, watch)  # type: ignore[misc]
    except NonFinite:
        return None
    return run


def score(subject: Subject, run: Run, raw: Batch) -> Score:
    """The loss of rows against that of shuffled targets, outputs computed once in eval mode."""
    batch: Any = subject.prepared(run, raw)
    outputs = subject.outputs(run, batch, training=False)
    y, generator, losses = batch["y"], torch.Generator().manual_seed(0), []
    for _ in range(SHUFFLES):
        order = torch.randperm(len(batch), generator=generator).to(y.device)
        losses.append(float(subject.loss_of(run, outputs, batch.replace(y=y[order]))))
    mean = sum(losses) / len(losses)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in losses) / (len(losses) - 1))
    return Score(float(subject.loss_of(run, outputs, batch)), mean, deviation, len(batch))
