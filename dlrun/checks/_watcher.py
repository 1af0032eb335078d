"""What a check of the moment `training` is: an object that is shown rows of metrics as they are written, and evaluations as they happen.

Rows reach it off the training's critical path, when telemetry is flushed; what it computes at an evaluation runs on copies while the clock
is stopped. It keeps no state that a resume would need: the rows of metrics.jsonl are shown to it again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.checks._finding import Finding
from dlrun.evaluate import evaluating
from dlrun.noise import Noise, seed_generators
from dlrun.run import Run
from dlrun.task import LossTask

ROWS = 1024


class Evaluation:
    """One evaluation as watchers see it: `step`, whether it is the last, the newest metrics, and outputs where they are cheap."""

    def __init__(self, run: Run, step: int, final: bool, metrics: Mapping[str, float]) -> None:
        self.run, self.step, self.final, self.metrics = run, step, final, metrics
        self._kept: dict[str, tuple[Any, Any] | None] = {}

    @property
    def epochs(self) -> float:
        """How often a row of train was seen by now."""
        return self.step * self.run.data.batch_size / max(self.run.data.rows["train"], 1)

    def compared(self, split: str) -> tuple[Any, Any] | None:
        """(outputs, targets) of up to 1,024 rows of a split in eval mode, as metrics get them; None for tasks and data without such."""
        if split not in self._kept:
            self._kept[split] = self._compare(split)
        return self._kept[split]

    def _compare(self, split: str) -> tuple[Any, Any] | None:
        run = self.run
        if not isinstance(run.task, LossTask) or run.task.couples_rows or not getattr(run.data.raw(split), "in_memory", False):
            return None
        parts = []
        with evaluating(run.modules), run.precision.autocast():
            whole = run.data.head(split, ROWS)
            for low in range(0, len(whole), 256):
                noise = Noise(run.seed, "watch", low)
                seed_generators(*noise.key)
                batch: Batch = run.task.prepare(whole[low : low + 256], noise)
                parts.append(run.task.compared(run.task.outputs(run.nets, batch), batch)[:2])
        if not all(isinstance(value, Tensor) for pair in parts for value in pair):
            return None
        return torch.cat([out for out, _ in parts]), torch.cat([y for _, y in parts])


class Watcher:
    """The base of watchers: says nothing."""

    stage, moment, recipe = "learning", "training", ""

    def __init__(self, run: Run) -> None:
        self.run = run

    @functools.cached_property
    def may_rise(self) -> bool:
        """Whether the loss of this run need not fall."""
        expects = self.run.config.get("expects") or {}
        return bool(expects.get("loss_may_rise")) or not isinstance(self.run.task, LossTask)

    def row(self, row: Mapping[str, Any]) -> Finding | None:
        """One row of metrics.jsonl, in order."""
        return None

    def evaluated(self, seen: Evaluation) -> Finding | None:
        """After an evaluation."""
        return None


def median(values: Sequence[float]) -> float:
    """The middle value; NaN of none."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else math.nan


def spread(values: Sequence[float]) -> float:
    """1.48 x the median distance from the median: the standard deviation where outliers are left out."""
    middle = median(values)
    return 1.4826 * median([abs(value - middle) for value in values])


def falls(values: Sequence[float]) -> float:
    """The one-sided p-value of a downward trend (Mann 1945, Kendall 1975; normal approximation, up to 200 values): small where it falls."""
    taken = values[:: max(1, len(values) // 200)]
    count = len(taken)
    if count < 4:
        return 1.0
    signs = sum((later > sooner) - (later < sooner) for place, sooner in enumerate(taken) for later in taken[place + 1 :])
    deviation = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    score = (signs + 1) / deviation if signs < 0 else 0.0
    return 0.5 * math.erfc(-score / math.sqrt(2))
