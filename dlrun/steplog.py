"""What one step has to say, kept as tensors until somebody asks: reading a number would make every step wait for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.functional.likeness import misfit
from dlrun.histograms import Histograms
from dlrun.task import LossTask, Task
from dlrun.types import Mean, Objective, Whole, double

Logged = Tensor | float | Mean | Whole


class StepLog:
    """Losses, terms and metrics of the step at hand, and the share of clipped steps since the last row."""

    def __init__(self, histograms: Histograms | None = None) -> None:
        self.wanted, self.histograms = False, histograms
        self.first_pass = self.last_pass = True
        self._means: dict[str, tuple[Tensor | float, Tensor | float]] = {}
        self._metrics: dict[str, Mean | Whole] = {}
        self._rates: dict[str, float] = {}
        self._norm: Tensor | float | None = None
        self._clipped: Tensor | float = 0.0
        self._seen = 0
        self._before: list[Any] = [0.0, 0]

    def begin(self, wanted: bool) -> None:
        """A new step; unless it is `wanted`, only clipping is counted."""
        self.wanted = wanted
        self._means, self._metrics = {}, {}

    def rates(self, optimizers: Mapping[str, Any]) -> None:
        """The learning rate that each optimizer uses in this step."""
        if not self.wanted:
            return
        found = {name: optimizer.param_groups[0].get("lr") for name, optimizer in optimizers.items()}
        self._rates = {("lr" if len(found) == 1 else f"lr_{name}"): float(rate) for name, rate in found.items() if rate is not None}

    def add(self, objective: Objective, name: str, loss: Tensor | float, task: Task, batch: Batch) -> None:
        """One micro-batch's objective and its `loss`; means over several are weighed by their counts."""
        if not (self.wanted and self.first_pass):
            return
        self._join(name, loss, objective.count)
        for term, value in objective.terms.items():
            self._join(term, value.detach(), objective.count)
        if objective.outputs is not None:
            with torch.no_grad():
                self._measure(task.measure(objective.outputs, batch))
                if isinstance(task, LossTask):
                    self._measure(task.of_loss(loss, objective.count))

    def _join(self, name: str, value: Tensor | float, count: Tensor | float) -> None:
        before = self._means.get(name)
        if before is not None:
            total = before[1] + count
            value, count = (double(before[0]) * double(before[1]) + double(value) * double(count)) / total, total
        self._means[name] = (value, count)

    def _measure(self, metrics: Mapping[str, Mean | Whole]) -> None:
        for name, value in metrics.items():
            before: Any = self._metrics.get(name)
            self._metrics[name] = value if before is None else before + value

    def clip(self, norm: Tensor | float, limit: float) -> None:
        """The gradient norm before clipping to `limit`."""
        if not self.last_pass:
            return
        self._norm = norm
        self._clipped = self._clipped + (norm > limit)
        self._seen += 1

    def values(self) -> dict[str, Logged]:
        """The row of this step; restarts the count of clipped steps."""
        row: dict[str, Logged] = {**{name: mean for name, (mean, _) in self._means.items()}, **self._metrics}
        if self._seen and self._norm is not None:
            row |= {"grad_norm": self._norm, "clipped": self._clipped / self._seen}
            self._before = [self._before[0] + self._clipped, self._before[1] + self._seen]
            self._clipped, self._seen = 0.0, 0
        return row | self._rates

    def clipped_share(self) -> float | None:
        """Share of all objectives so far whose gradient was clipped; None where nothing clips."""
        seen = self._before[1] + self._seen
        return float(self._before[0] + self._clipped) / seen if seen else None

    def state_dict(self) -> dict[str, Any]:
        """The running counts of clipped steps."""
        return {"clipped": float(self._clipped), "seen": self._seen, "before": [float(n) for n in self._before]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        if reason := misfit(self.state_dict(), state):
            raise ValueError(reason)
        self._clipped, self._seen, self._before = state["clipped"], state["seen"], list(state["before"])
