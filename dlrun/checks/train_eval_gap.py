"""The same training rows cost far more in eval mode than in train mode: running statistics that are not those of the data.

Source: Ioffe and Szegedy 2015, "Batch Normalization", algorithm 2 (inference with running statistics); catalogue row 35. Tested on one side
only, since dropout makes the loss in train mode the higher one, and against the first loss, since a ratio of two tiny losses says nothing.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch
from torch import nn

from dlrun.batch import Batch
from dlrun.checks._finding import Finding
from dlrun.checks._watcher import Evaluation, Watcher
from dlrun.evaluate import evaluating
from dlrun.loop import prepare
from dlrun.noise import seed_generators
from dlrun.run import Run
from dlrun.task import LossTask

BATCHES, SOONEST = 4, 50
RATIO, SHARE = 3.0, 0.1
RULE = f"loss in eval mode <= {RATIO:g} x that in train mode, or within {SHARE:g} of the first loss and 4 standard errors"


class train_eval_gap(Watcher):
    """Four training batches on copies of networks with running statistics: at the first evaluation after 50 steps, and at the last."""

    stage, recipe = "learning", "Hacker's Guide: train() and eval() are two networks"

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.looked = False
        self.first: float | None = None

    def evaluated(self, seen: Evaluation) -> Finding | None:
        """Compare both modes on equal rows."""
        self.first = seen.metrics.get("val/loss") if seen.step == 0 else self.first
        due = seen.final or (seen.step >= SOONEST and not self.looked)
        if not due or not self._applies() or self.first is None or not math.isfinite(self.first):
            return None
        self.looked = True
        pairs = torch.tensor(self._losses(), dtype=torch.float64)
        train, evaluation = pairs.mean(0).tolist()
        error = float((pairs[:, 1] - pairs[:, 0]).std() / math.sqrt(len(pairs)))
        gap = evaluation - train
        if evaluation <= RATIO * abs(train) or gap <= 4 * error or gap <= SHARE * abs(self.first):
            return None
        text = f"the same training rows have loss {train:.4g} in train mode and {evaluation:.4g} in eval mode"
        numbers = {"train_mode": train, "eval_mode": evaluation, "standard_error": error, "step": seen.step}
        cause = "running statistics of a normalisation are not those of the data: its momentum, or batches too small"
        return Finding("warning", text, cause, "look at momentum and batch size, or take a norm without running statistics", numbers, RULE)

    def _applies(self) -> bool:
        run = self.run
        parts = (part for module in run.modules.values() for part in module.modules())
        stored = any(isinstance(part, nn.modules.batchnorm._NormBase) and part.running_mean is not None for part in parts)
        plain = isinstance(run.task, LossTask) and not run.task.couples_rows and getattr(run.data.raw("train"), "in_memory", False)
        return stored and plain and run.data.batch_size > 1

    def _losses(self) -> list[tuple[float, float]]:
        run = replace(self.run, modules=copy.deepcopy(self.run.modules), ema=None, _updated_by={})
        found = []
        for step in range(BATCHES):
            batch = prepare(run, step, 0, run.data.batches(step)[0])
            found.append((self._loss(run, batch, True), self._loss(run, batch, False)))
        return found

    def _loss(self, run: Run, batch: Batch, training: bool) -> float:
        assert isinstance(run.task, LossTask)
        with evaluating(run.modules), run.precision.autocast():
            for module in run.modules.values():
                module.train(training)
            seed_generators(run.seed, "gap")
            loss = run.task.loss(run.task.outputs(run.nets, batch.map(torch.clone)), batch)
        return float(loss[0] if isinstance(loss, tuple) else loss)
